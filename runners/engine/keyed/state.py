"""The state and timers of one keyed step at one worker: live objects in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import compress, repeat
from operator import is_
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain

from sage.errors import CheckpointError
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.exchange import KEY_GROUPS
from sage.runners.engine.keyed.chunks import Chunk, Declared, Place, write_chunk
from sage.runners.engine.keyed.kinds import make_cell
from sage.runners.engine.keyed.timers import Timer, TimerHandle, TimerQueue

_LEAST_SWEPT = 100_000
_MOST_NEAR = 50_000
_NOWHERE = object()

Expired = Callable[[Any], Callable[[int], bool]]
"""Of a time to live: which instants of writing (ms) it has passed by."""


class Cells(dict):  # type: ignore[type-arg]
    """The cells of one window by place, and those that user code was given since they were last written down.

    Those are ``touched``; ``near`` has some of them by state name and key, so that what is used often is found at once.
    What was restored and nobody has asked for since is ``asleep``: contents by state name and key, which need no cell
    and no place. A job is at work again the sooner.
    """

    __slots__ = ("asleep", "near", "touched")

    def __init__(self) -> None:
        self.asleep: dict[str, dict[Any, Any]] = {}
        self.near: dict[str, dict[Any, Any]] = {}
        self.touched: list[tuple[Place, Any]] = []

    def wake(self, place: Place) -> Any:
        """The content of a place that was asleep; None if there is none."""
        name, identity = place
        column = self.asleep.get(name)
        if column is None:
            return None
        content = column.pop(identity, None)
        if not column:
            del self.asleep[name]
        return content

    def take_touched(self) -> list[tuple[Place, Any]]:
        """What was touched, which is about to be written down."""
        self.forget_near()
        touched, self.touched = self.touched, []
        return touched

    def forget_near(self) -> None:
        """To be called when cells may go, or be written down."""
        for cells in self.near.values():
            cells.clear()


class KeyedState(userstate.UserStateContext):
    """State and timers of one step, by window and key identity.

    State kept: cells by window, then by (state name, key identity); two timer queues; what changed since the last
    snapshot, if snapshots are taken.

    Args:
        declared: what the step declares.
        tracked: whether snapshots will be taken.
    """

    def __init__(self, declared: Declared, tracked: bool = False) -> None:
        self.declared = declared
        self._ids = declared.ids
        self.direct = declared.ids.direct
        self._cells: dict[Any, Cells] = {}
        self._specs: dict[str, Any] = {}
        self._window: Any = _NOWHERE
        self._here = Cells()
        self._key: Any = object()
        self._identity: Any = None
        self._tracked = tracked
        self._whole_next = True
        self._mortal = {name for name, spec in declared.states.items() if getattr(spec, "ttl", None)}
        self.made = 0
        self.most_made = _LEAST_SWEPT
        self.event_timers = TimerQueue(tracked)
        self.clock_timers = TimerQueue(tracked)

    def _identify(self, key: Any) -> Any:
        if key is not self._key:
            self._identity = self._ids.of(key)
            self._key = key
        return self._identity

    def get_state(self, state_spec: Any, key: Any, window: Any) -> Any:
        cells = self._here if window is self._window else self._enter(window)
        place = (state_spec.name, self._identify(key))
        cell = cells.get(place)
        if cell is None:
            cell = cells[place] = self._missing(state_spec, key, window, place)
            self.made += 1
            if cells.asleep and (content := cells.wake(place)) is not None:
                cell.load(content)
        if not cell.touched:
            cell.touched = True
            cells.touched.append((place, cell))
        if key.__class__ in self.direct and (near := cells.near.get(state_spec.name)) is not None:
            if len(near) >= _MOST_NEAR:
                near.clear()
            near[key] = cell
        return cell

    def near(self, name: str, window: Any) -> dict[Any, Any]:
        """Cells of a state by key, for keys of the classes in ``direct``: some of those that need no `get_state`.

        Good until user code has been through a block.
        """
        cells = self._here if window is self._window else self._enter(window)
        return cells.near.setdefault(name, {})

    def _enter(self, window: Any) -> Cells:
        """The cells of another window than before; most elements are in the same as the one before them."""
        cells = self._cells.get(window)
        if cells is None:
            cells = self._cells[window] = Cells()
        self._window, self._here = window, cells
        return cells

    def _leave(self) -> None:
        """To be called when windows may have gone."""
        self._window = _NOWHERE

    def _missing(self, state_spec: Any, key: Any, window: Any, place: Place) -> Any:
        """The cell of a place that has none in memory."""
        cell = make_cell(self._prepared(state_spec))
        # Where nobody asks what was touched, a cell is so from the start.
        cell.touched = not self._tracked
        return cell

    def _prepared(self, state_spec: Any) -> Any:
        """The spec with a set-up copy of its CombineFn: the user's own object may serve other steps."""
        if not isinstance(state_spec, userstate.CombiningValueStateSpec):
            return state_spec
        if state_spec.name not in self._specs:
            prepared = copy.copy(state_spec)
            prepared.combine_fn = copy.deepcopy(state_spec.combine_fn)
            prepared.combine_fn.setup()
            self._specs[state_spec.name] = prepared
        return self._specs[state_spec.name]

    def close(self) -> None:
        """Tears down what was set up."""
        for prepared in self._specs.values():
            prepared.combine_fn.teardown()
        self._specs.clear()

    def get_timer(self, timer_spec: Any, key: Any, window: Any, timestamp: Any, pane: Any) -> TimerHandle:
        return self.timer(timer_spec, key, window, timestamp.micros, pane)

    def timer(self, timer_spec: Any, key: Any, window: Any, micros: int, pane: Any) -> TimerHandle:
        """The handle of a timer, for an element at an event time (microseconds)."""
        queue = self._queue(TimeDomain.is_event_time(timer_spec.time_domain))
        return TimerHandle(queue, timer_spec, (self._identify(key), key, window), micros, pane)

    def _queue(self, event: bool) -> TimerQueue:
        return self.event_timers if event else self.clock_timers

    def expire(self, watermark: int, lateness_micros: int) -> None:
        """Forgets the state of windows that the watermark has passed for good."""
        gone = [w for w in self._cells if w.max_timestamp().micros + lateness_micros < watermark]
        for window in gone:
            del self._cells[window]
        if gone:
            self._leave()

    def trim(self, expired: Expired) -> None:
        """Gives memory back when many cells were made (``made`` > ``most_made``); user code must hold none."""
        self._sweep(expired)
        self.made = 0
        self.most_made = max(_LEAST_SWEPT, sum(map(len, self._cells.values())))

    def _sweep(self, expired: Expired) -> None:
        """Drops the cells that hold nothing, or nothing that still lives."""
        for window, cells in list(self._cells.items()):
            self._wake_mortal(cells)
            cells.forget_near()
            empty = []
            for place, cell in cells.items():
                dropped = place[0] in self._mortal and cell.expire(expired(self.declared.states[place[0]].ttl))
                if dropped and not cell.touched:
                    cell.touched = True
                    cells.touched.append((place, cell))
                if cell.dump() is None:
                    empty.append(place)
            for place in empty:
                del cells[place]
            if not (cells or cells.asleep or cells.touched):
                del self._cells[window]
        self._leave()

    def _wake_mortal(self, cells: Cells) -> None:
        """Makes cells of what is asleep and may be too old: only a cell knows."""
        for name in self._mortal & cells.asleep.keys():
            spec = self._prepared(self.declared.states[name])
            for identity, content in cells.asleep.pop(name).items():
                cell = cells[name, identity] = make_cell(spec)
                cell.touched = not self._tracked
                cell.load(content)

    def snapshot(self, whole: bool, expired: Expired) -> RootSnapshot:
        """All cells and timers, or those that may have changed since the last snapshot."""
        whole = whole or self._whole_next
        self._whole_next = False
        if self._mortal and whole:
            self._sweep(expired)
        told = []
        for window, cells in self._cells.items():
            rows, asleep = self._told(cells, whole), cells.asleep if whole else {}
            if rows or asleep:
                told.append((window, rows, asleep))
        timers = self.event_timers.changes(whole), self.clock_timers.changes(whole)
        if not (whole or told or any(timers)):
            return RootSnapshot(whole=False)
        return RootSnapshot(write_chunk(self.declared, told, timers), whole)

    def _told(self, cells: Cells, whole: bool) -> list[tuple[Place, Any]]:
        """Place and content of a window's cells, for a snapshot; those without content are dropped."""
        touched = cells.take_touched()
        rows = []
        for place, cell in list(cells.items()) if whole else touched:
            current = cells.get(place)
            if current is None or current is cell:
                content = cell.dump()
                if content is None and current is not None:
                    del cells[place]
                rows.append((place, content))
        for _, cell in touched:
            cell.touched = False
        return [row for row in rows if row[1] is not None] if whole else rows

    def restore(self, state: RootState) -> None:
        """Takes back what snapshots held.

        Raises:
            CheckpointError: it does not fit what the step declares.
        """
        self._restore_files(state)
        for chunks in state.keyed:
            settings: dict[tuple[bool, Any], Timer] = {}
            for data in chunks:
                self._apply(Chunk(self.declared, data), state.mine, settings)
            for (event, name), timer in settings.items():
                self._queue(event).set(name, timer)
        # A chain of changes may go on from what was restored only while the same worker has the same keys.
        self._whole_next = True

    def _restore_files(self, state: RootState) -> None:
        if any(state.files):
            raise CheckpointError(
                f"step '{self.declared.step}': the checkpoint holds its state in the files of a store: "
                "run the job with --state_backend=rocksdb, as when it was taken"
            )

    def _apply(
        self, chunk: Chunk, mine: Callable[[int], bool] | None, settings: dict[tuple[bool, Any], Timer]
    ) -> None:
        """Takes the cells of a chunk, and what it changes of the settings of timers."""
        ids = self._ids

        def is_mine(key: Any) -> bool:
            return mine is None or mine(ids.group(key, KEY_GROUPS))

        for name, window, keys, contents in chunk.cells():
            if mine is not None:
                ours = list(map(is_mine, keys))
                keys, contents = list(compress(keys, ours)), list(compress(contents, ours))
            self._put(name, window, keys, contents)
        for event, spec, key, window, tag, timer in chunk.timers():
            if is_mine(key):
                setting = event, (spec.name, ids.of(key), window, tag)
                settings.pop(setting, None)
                if timer is not None:
                    settings[setting] = timer

    def _put(self, name: str, window: Any, keys: list[Any], contents: list[Any]) -> None:
        """Puts contents in their places, for good."""
        asleep = self._enter(window).asleep
        column = asleep.setdefault(name, {})
        identities = self._ids.of_all(keys)
        column.update(zip(identities, contents, strict=True))
        for identity in compress(identities, map(is_, contents, repeat(None))):
            del column[identity]
        if not column:
            del asleep[name]

    def commit(self) -> None:
        """Cells are written in place."""

    def reset(self) -> None:
        """Cells outlive bundles."""

