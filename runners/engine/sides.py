"""Side inputs: collections read whole, per window, by a step that waits until they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apache_beam.portability import common_urns
from apache_beam.transforms import sideinputs
from apache_beam.transforms.trigger import DefaultTrigger

from sage.runners.engine import spec
from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import TaskContext
from sage.runners.engine.keyed.keys import KeyIds, key_coder
from sage.runners.engine.ops import Op
from sage.runners.engine.root import Root
from sage.runners.engine.spilling.backlog import Backlog

_MULTIMAP = common_urns.side_inputs.MULTIMAP.urn


class _Multimap(Mapping):  # type: ignore[type-arg]
    """Key to values, by key identity; a key that is not there has no values."""

    def __init__(self, ids: KeyIds, pairs: Iterable[Any]) -> None:
        self._ids = ids
        self._values: dict[Any, list[Any]] = {}
        self._keys: dict[Any, Any] = {}
        for key, value in pairs:
            identity = ids.of(key)
            self._keys.setdefault(identity, key)
            self._values.setdefault(identity, []).append(value)

    def __getitem__(self, key: Any) -> list[Any]:
        return self._values.get(self._ids.of(key), [])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return self._ids.of(key) in self._values


class SideView:
    """One side input as Beam's DoFnRunner reads it: ``view[window of the main input]``.

    State: the values of each of its own windows; the views built of them.
    """

    def __init__(self, side: spec.SideInput, collection: spec.Collection) -> None:
        self._data = side.data
        self._ids = KeyIds(key_coder(collection.coder))
        self._values: dict[Any, list[Any]] = {}
        self._views: dict[Any, Any] = {}
        self._waits_for_end = isinstance(collection.windowing.triggerfn, DefaultTrigger)
        self._panes: dict[Any, Any] = {}
        self.watermark = Root.watermark

    def add(self, block: Block) -> None:
        """Takes values of the side collection."""
        for value, windows in block.windowed():
            for window in windows:
                self._values.setdefault(window, []).append(value)
                self._views.pop(window, None)

    def ready(self, window: Any) -> bool:
        """Whether the view for a window of the main input can be read."""
        if self.watermark >= MAX_MICROS:
            return True
        target = self._data.window_mapping_fn(window)
        if not self._waits_for_end and target in self._values:
            return True
        return bool(self.watermark > target.max_timestamp().micros)

    def __getitem__(self, window: Any) -> Any:
        target = self._data.window_mapping_fn(window)
        if target not in self._views:
            values = self._values.get(target, [])
            if self._data.access_pattern == _MULTIMAP:
                raw: Any = _Multimap(self._ids, values)
            else:
                raw = list(values)
            self._views[target] = self._data.view_fn(raw)
        return self._views[target]

    def is_globally_windowed(self) -> bool:
        """Whether every main window reads the same view."""
        return bool(self._data.window_mapping_fn == sideinputs._global_window_mapping_fn)


class GatedRoot(Root):
    """Holds elements back until the side inputs of their windows are there, then hands them to the root behind.

    Ports: those of the root behind, then one for each side input. State: the elements held back.
    """

    def __init__(
        self, inner: Root, inputs: Sequence[spec.CollectionId], views: list[SideView], context: TaskContext
    ) -> None:
        self._inner = inner
        self.entry = inner.entry
        self._first = len(inputs)
        self._views = views
        self._waiting = Backlog([context.collections[c] for c in inputs], context.job.memory)
        self._open = False

    def open(self) -> None:
        self._inner.open()

    def start_bundle(self) -> None:
        self._inner.start_bundle()

    def process_block(self, port: int, block: Block) -> None:
        if port >= self._first:
            self._views[port - self._first].add(block)
        elif self._open or all(view.watermark >= MAX_MICROS for view in self._views):
            self._open = True
            self._inner.process_block(port, block)
        else:
            self._offer(port, block)

    def _ready(self, window: Any) -> bool:
        return all(view.ready(window) for view in self._views)

    def _offer(self, port: int, block: Block) -> None:
        """Hands on what is ready of a block, and holds back the rest."""
        if not isinstance(block.windows, list):
            ready = sum(map(self._ready, block.windows))
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
        for row, (_, windows) in enumerate(block.windowed()):
            if windows is not last:
                last, at_hand = windows, {window for window in windows if self._ready(window)}
                open_windows = tuple(window for window in windows if window in at_hand)
                shut_windows = tuple(window for window in windows if window not in at_hand)
            if open_windows:
                now.add(row, open_windows)
            if shut_windows:
                later.add(row, shut_windows)
        if now.rows:
            self._inner.process_block(port, now.of(block))
        if later.rows:
            self._waiting.append(port, later.of(block))

    def advance_side(self, port: int, watermark: int) -> bool:
        """A side input's watermark moved on; whether `fire` should be called."""
        self._views[port - self._first].watermark = watermark
        return bool(self._waiting)

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return self._inner.advance(min(watermark, self._waiting.earliest))

    def fire(self) -> None:
        for port, block in self._waiting.take():
            self._offer(port, block)
        self._inner.fire()
        # What was held back is out: the watermark behind the gate may follow.
        if self._inner.watermark < self.watermark and self._inner.advance(min(self.watermark, self._waiting.earliest)):
            self._inner.fire()

    def wakeup(self) -> int | None:
        return self._inner.wakeup()

    def hold(self) -> int:
        return min(self._waiting.earliest, self._inner.hold())

    def finish_bundle(self) -> None:
        self._inner.finish_bundle()

    @property
    def ops(self) -> tuple[Op, ...]:
        return self._inner.ops

    def close(self) -> None:
        self._inner.close()


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
