"""Side inputs: collections read whole, per window, by a step that waits until they are there."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.core.key_groups import KEY_GROUPS
from sage.runners.engine.core.keys import KeyIds, key_coder
from sage.runners.engine.memory.backlog import Backlog
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.late import SIDE_INPUT_GONE, LateRecords
from sage.runners.engine.operators.base.operator import Op
from sage.runners.engine.operators.base.root import Root
from sage.runners.engine.operators.side_inputs.views import SideView, dump_views
from sage.runners.engine.serde.wire import decode_block, encode_block


class SideInputGate(Root):
    """Holds elements back until the side inputs of their windows are there, then hands them to the root behind.

    Ports: those of the root behind, then one for each side input. State: the elements held back, and the views. Views
    of windows that are over are forgotten; an element that comes for one after its allowed lateness is dropped.
    """

    late: LateRecords

    def __init__(self, inner: Root, step: spec.ParDo, views: list[SideView], context: TaskContext) -> None:
        self._inner = inner
        self._step = step
        self.entry = inner.entry
        self.late = inner.late or LateRecords(step.name, context, SIDE_INPUT_GONE)
        self.reads_external, self.accepts_partial_blocks = inner.reads_external, inner.accepts_partial_blocks
        self._first = len(step.inputs)
        self._views = views
        self._sources = [context.collections[c] for c in step.inputs]
        self._waiting = Backlog(self._sources, context.job.memory)
        self._open = False
        # What a restriction was begun in may be read at any time, and the views of a batch go when it ends.
        unbounded = not all(source.bounded for source in self._sources)
        self._forgets = unbounded and not step.splittable and bool(views)
        self._lateness = max((int(source.windowing.allowed_lateness.micros) for source in self._sources), default=0)

    def open(self) -> None:
        self._inner.open()

    def start_bundle(self) -> None:
        self._inner.start_bundle()

    def process_block(self, port: int, block: Block) -> None:
        if port >= self._first:
            if self._views[port - self._first].add(block):
                self._release_waiting()
        elif self._open or self._all_open():
            self._inner.process_block(port, block)
        else:
            self._offer(port, block, self._gone)

    def _all_open(self) -> bool:
        """Whether every view is there, and stays as it is."""
        self._open = all(view.watermark >= MAX_MICROS and not view.forgot for view in self._views)
        self._forgets = self._forgets and not self._open
        return self._open

    def _ready(self, window: Any) -> bool:
        return all(view.ready(window) for view in self._views)

    def _release_waiting(self) -> None:
        # Nothing that an element waits for is forgotten.
        for port, block in self._waiting.take():
            self._offer(port, block, lambda _: False)

    def _offer(self, port: int, block: Block, gone: Callable[[Any], bool]) -> None:
        """Hands on what is ready of a block, and holds back the rest; what it reads may be ``gone``."""
        if not isinstance(block.windows, list):
            ready = sum(map(self._ready, block.windows))
            if not any(map(gone, block.windows)):
                if ready == len(block.windows):
                    self._inner.process_block(port, block)
                    return
                if not ready:
                    self._waiting.append(port, block)
                    return
        now, later = _Rows(), _Rows()
        last: Any = None
        open_windows: tuple[Any, ...] = ()
        shut_windows: tuple[Any, ...] = ()
        gone_windows = late = 0
        for row, (_, windows) in enumerate(block.windowed()):
            if windows is not last:
                last, live = windows, [w for w in windows if not gone(w)]
                at_hand = [self._ready(window) for window in live]
                open_windows = tuple(w for w, ready in zip(live, at_hand, strict=True) if ready)
                shut_windows = tuple(w for w, ready in zip(live, at_hand, strict=True) if not ready)
                gone_windows = len(windows) - len(live)
            late += gone_windows
            if open_windows:
                now.add(row, open_windows)
            if shut_windows:
                later.add(row, shut_windows)
        if now.rows:
            self._inner.process_block(port, now.of(block))
        if later.rows:
            self._waiting.append(port, later.of(block))
        if late:
            self.late.drop(late)

    def _gone(self, window: Any) -> bool:
        """Whether a view for a window of the main input is forgotten."""
        if not self._forgets or window.max_timestamp().micros >= self._bound:
            return False
        return self._settled(window) and any(view.gone(window, self._bound) for view in self._views)

    def _settled(self, window: Any) -> bool:
        return all(view.settled(window) for view in self._views)

    @property
    def _bound(self) -> int:
        """The event time (microseconds) before which windows are over for good."""
        return self.watermark - self._lateness

    def advance_side(self, port: int, watermark: int) -> bool:
        """A side input's watermark moved on; whether `fire` should be called."""
        self._views[port - self._first].advance(watermark)
        return self._opens()

    def _opens(self) -> bool:
        """Whether something waits for a window that is ready now."""
        return any(map(self._ready, self._waiting.windows))

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return self._follow()

    def _follow(self) -> bool:
        """Moves the watermark behind the gate on as far as what is held back allows."""
        if self._forgets:
            # By what is the same at every worker with this watermark, so that one can go on with another's views.
            for view in self._views:
                view.expire(self._bound, self._settled)
        inner = self._inner
        return inner.advance(max(inner.watermark, min(self.watermark, self._waiting.earliest)))

    def fire(self) -> None:
        for view in self._views:
            if view.wakeup() is not None:
                view.wake()
        if self._opens():
            self._release_waiting()
        self._inner.fire()
        # What was held back is out: the watermark behind the gate may follow.
        if self._inner.watermark < self.watermark and self._follow():
            self._inner.fire()

    def wakeup(self) -> int | None:
        if self._inner.watermark < min(self.watermark, self._waiting.earliest):
            return MIN_MICROS  # a view came within a bundle, and what waited for it is out
        times = [self._inner.wakeup(), *(view.wakeup() for view in self._views)]
        return min((time for time in times if time is not None), default=None)

    @property
    def reading(self) -> bool:
        return self._inner.reading

    def hold(self) -> int:
        return min(self._waiting.earliest, self._inner.hold())

    def finish_bundle(self) -> None:
        opened = [view.settle() for view in self._views]
        if any(opened):
            self._release_waiting()
        self._inner.finish_bundle()

    @property
    def ops(self) -> tuple[Op, ...]:
        return self._inner.ops

    def on_checkpoint_complete(self) -> None:
        self._inner.on_checkpoint_complete()

    def drain(self) -> None:
        self._inner.drain()

    def close(self) -> None:
        self._inner.close()

    # Snapshots: what the root behind gives, and beside it the views, which are everywhere the same, and what is held
    # back: by key where the root behind has state by key, else for any worker.

    def snapshot(self, whole: bool) -> RootSnapshot:
        inner = self._inner.snapshot(whole)
        coders = [source.coder for source in self._sources]
        contents = [(port, encode_block(block, coders[port])) for port, block in self._waiting.blocks()]
        shared = dump_views(self._views, inner.shared)
        if self._step.stateful:
            return RootSnapshot(
                pickle.dumps((inner.keyed, contents), 5), inner.whole, inner.spread, shared, inner.files
            )
        spread = [*((None, item) for item in inner.spread), *contents]
        return RootSnapshot(inner.keyed, inner.whole, spread, shared, inner.files)

    def restore(self, state: RootState) -> None:
        views, shared = pickle.loads(state.shared) if state.shared is not None else ((), None)
        for view, packed in zip(self._views, views, strict=False):
            view.restore(packed)
        keyed: Sequence[Sequence[bytes]] = state.keyed
        contents = [row for row in state.spread if row[0] is not None]
        if self._step.stateful:
            chains = [list(map(pickle.loads, chain)) for chain in state.keyed]
            keyed = [[part for part, _ in chain if part is not None] for chain in chains]
            contents = [row for chain in chains if chain for row in chain[-1][1]]
        for port, data in contents:
            block = decode_block(data, self._sources[port].coder)
            self._take_back(port, block, state.mine if self._step.stateful else None)
        spread = [item for port, item in state.spread if port is None]
        self._inner.watermark = min(self.watermark, self._waiting.earliest)
        self._inner.restore(RootState(keyed, spread, shared, state.mine, state.files))

    def _take_back(self, port: int, block: Block, mine: Callable[[int], bool] | None) -> None:
        """Holds back the rows of a block that are ours."""
        if mine is not None:
            ids = KeyIds(key_coder(self._sources[port].coder))
            rows = [row for row, (key, _) in enumerate(block.values) if mine(ids.group(key, KEY_GROUPS))]
            block = block.pick(rows)
        if len(block):
            self._waiting.append(port, block)


class _Rows:
    """Rows of a block, each in some of its windows."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._windows: list[tuple[Any, ...]] = []

    def add(self, row: int, windows: tuple[Any, ...]) -> None:
        self.rows.append(row)
        self._windows.append(windows)

    def of(self, block: Block) -> Block:
        """The block of these rows."""
        picked = block.pick(self.rows)
        first = self._windows[0]
        picked.windows = first if all(windows is first for windows in self._windows) else self._windows
        return picked
