"""The state and timers of one keyed step at one worker: live objects in memory."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, compress, repeat
from operator import attrgetter, eq, is_
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain

from sage.errors import CheckpointError
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.key_groups import KEY_GROUPS
from sage.runners.engine.operators.keyed.cells import Cell
from sage.runners.engine.operators.keyed.chunks import Chunk, Column, StateSchema, write_chunk
from sage.runners.engine.operators.keyed.kinds import kind_of
from sage.runners.engine.operators.keyed.timers import Timer, TimerHandle, TimerQueue

_LEAST_SWEPT = 100_000
_NOWHERE = object()

Expired = Callable[[Any], Callable[[int], bool]]
"""Of a time to live: which instants of writing (ms) it has passed by."""


class Cells:
    """The cells of one window by state name and identity of key, and those that were ``touched``.

    Those are what user code was given since they were last written down. What was restored and nobody has asked for
    since is ``asleep``: contents by state name and identity of key, which need no cell. A job is at work again the
    sooner.
    """

    __slots__ = ("columns", "serialized", "touched")

    def __init__(self) -> None:
        self.serialized: dict[str, dict[Any, Any]] = {}
        self.columns: defaultdict[str, dict[Any, Any]] = defaultdict(dict)
        self.touched: list[Any] = []

    def __len__(self) -> int:
        return sum(map(len, self.columns.values()))

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(column.values() for column in self.columns.values())

    def materialize(self, name: str, identity: Any) -> Any:
        """The content of a place that was asleep; None if there is none."""
        column = self.serialized.get(name)
        if column is None:
            return None
        content = column.pop(identity, None)
        if not column:
            del self.serialized[name]
        return content

    def take_touched(self) -> list[Any]:
        """What was touched, which is about to be written down."""
        touched, self.touched = self.touched, []
        return touched


class KeyedState(userstate.UserStateContext):
    """State and timers of one step, by window and key identity.

    State kept: cells by window, then by state name and key identity; two timer queues; what changed since the last
    snapshot, if snapshots are taken.

    Args:
        declared: what the step declares.
        tracked: whether snapshots will be taken.
    """

    def __init__(self, declared: StateSchema, tracked: bool = False) -> None:
        self.declared = declared
        self._ids = declared.ids
        self.direct = declared.ids.direct
        self._cells: dict[Any, Cells] = {}
        self._specs: dict[str, Any] = {}
        self._makers: dict[str, Callable[[], Any]] = {}
        self._window: Any = _NOWHERE
        self._window_cells = Cells()
        self._key: Any = object()
        self._identity: Any = None
        self._tracked = tracked
        self._whole_next = True
        self._expiring = {name for name, spec in declared.states.items() if getattr(spec, "ttl", None)}
        self.made = 0
        self.most_made = _LEAST_SWEPT
        self.event_timers = TimerQueue(tracked, by_clock=False)
        self.clock_timers = TimerQueue(tracked, by_clock=True)

    def _identify(self, key: Any) -> Any:
        if key is not self._key:
            self._identity = self._ids.of(key)
            self._key = key
        return self._identity

    def get_state(self, state_spec: Any, key: Any, window: Any) -> Any:
        cells = self._window_cells if window is self._window else self._enter(window)
        identity = self._identity if key is self._key else self._identify(key)
        name = state_spec.name
        column = cells.columns[name]
        cell = column.get(identity)
        if cell is None:
            if identity is key:
                self._ids.check((key,))
            cell = column[identity] = self._missing(name, key, identity, window)
            cell.name, cell.identity = name, identity
            self.made += 1
            if cells.serialized and (content := cells.materialize(name, identity)) is not None:
                cell.load(content)
        if not cell.touched:
            cell.touched = True
            cells.touched.append(cell)
        return cell

    def column(self, name: str, window: Any) -> dict[Any, Any]:
        """The cells of a state, by key for keys of the classes in ``direct``: those that are touched need no
        `get_state`. Good until user code has been through a block.
        """
        cells = self._window_cells if window is self._window else self._enter(window)
        return cells.columns[name]

    def _enter(self, window: Any) -> Cells:
        """The cells of another window than before; most elements are in the same as the one before them."""
        cells = self._cells.get(window)
        if cells is None:
            cells = self._cells[window] = Cells()
        self._window, self._window_cells = window, cells
        return cells

    def _leave(self) -> None:
        """To be called when windows may have gone."""
        self._window = _NOWHERE

    def _missing(self, name: str, key: Any, identity: Any, window: Any) -> Any:
        """The cell of a place that has none in memory."""
        return self._new_cell(name)

    def _new_cell(self, name: str) -> Any:
        make = self._makers.get(name)
        if make is None:
            spec = self.declared.states[name]
            make = self._makers[name] = partial(kind_of(spec), self._prepared(spec))
        cell = make()
        if not self._tracked:
            cell.touched = True  # where nobody asks what was touched, a cell is so from the start
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
        """Tears down what was set up, and lets go of all cells and timers.

        Whoever runs the job may know its stages until the process ends. Python would then look at each of a million
        objects three times for cycles, which takes longer than to free them here.
        """
        for cells in self._cells.values():
            for column in (*cells.columns.values(), *cells.serialized.values()):
                column.clear()  # compiled code knows some of them
        self._cells.clear()
        self._leave()
        self._window_cells = Cells()
        self.event_timers.close()
        self.clock_timers.close()
        for prepared in self._specs.values():
            prepared.combine_fn.teardown()
        self._specs.clear()
        self._makers.clear()

    def get_timer(self, timer_spec: Any, key: Any, window: Any, timestamp: Any, pane: Any) -> TimerHandle:
        handle = self.timer(timer_spec)
        handle.key, handle.window, handle.micros, handle.pane = key, window, timestamp.micros, pane
        return handle

    def timer(self, timer_spec: Any) -> TimerHandle:
        """A handle of a timer, to be told of the element at hand."""
        queue = self._queue(TimeDomain.is_event_time(timer_spec.time_domain))
        return TimerHandle(queue, timer_spec, self._identify)

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
            for name in self._expiring:
                self._expire_cells(name, cells, expired(self.declared.states[name].ttl))
            for column in cells.columns.values():
                for identity in [identity for identity, cell in column.items() if cell.dump() is None]:
                    del column[identity]
            if not (cells or cells.serialized or cells.touched):
                del self._cells[window]
        self._leave()

    def _expire_cells(self, name: str, cells: Cells, expired: Callable[[int], bool]) -> None:
        column = cells.columns[name]
        # Cells are made of what is asleep and may be too old: only a cell knows.
        for identity, content in cells.serialized.pop(name, {}).items():
            cell = column[identity] = self._new_cell(name)
            cell.name, cell.identity = name, identity
            cell.load(content)
        for cell in column.values():
            if cell.expire(expired) and not cell.touched:
                cell.touched = True
                cells.touched.append(cell)

    def snapshot(self, whole: bool, expired: Expired) -> RootSnapshot:
        """All cells and timers, or those that may have changed since the last snapshot."""
        whole = whole or self._whole_next
        self._whole_next = False
        if self._expiring and whole:
            self._sweep(expired)
        cells_by_window = []
        for window, cells in self._cells.items():
            cells_by_window += [(window, columns) for columns in self._columns(cells, whole) if columns]
        timers = self.event_timers.changes(whole), self.clock_timers.changes(whole)
        if not (whole or cells_by_window or any(map(any, timers))):
            return RootSnapshot(whole=False)
        return RootSnapshot(write_chunk(self.declared, cells_by_window, timers), whole)

    def _columns(self, cells: Cells, whole: bool) -> list[dict[str, Column]]:
        """Contents of a window's cells by state name, for a snapshot; cells without content are dropped."""
        touched = cells.take_touched()
        if not whole:
            names = list(map(attrgetter("name"), touched))
            changed = {name: list(compress(touched, map(eq, names, repeat(name)))) for name in dict.fromkeys(names)}
            columns = {name: self._changed(name, found, cells.columns[name]) for name, found in changed.items()}
        else:
            columns = {name: self._there(name, column) for name, column in cells.columns.items() if column}
        for cell in touched:
            cell.touched = False
        columns = {name: column for name, column in columns.items() if column[0]}
        if not whole:
            return [columns]
        asleep = cells.serialized.items()
        return [columns, {name: (list(column), list(column.values())) for name, column in asleep}]

    def _there(self, name: str, column: dict[Any, Any]) -> Column:
        """Identities and contents of the cells of a state, of which those without content go."""
        contents = self._kind(name).dump_all(column.values())
        empty = list(compress(column, map(is_, contents, repeat(None))))
        if empty:
            contents = [content for content in contents if content is not None]
            for identity in empty:
                del column[identity]
        return list(column), contents

    def _changed(self, name: str, touched: list[Any], column: dict[Any, Any]) -> Column:
        """Identities and contents of the cells that were touched: None for those that hold nothing any more."""
        identities = list(map(attrgetter("identity"), touched))
        current = list(map(column.get, identities))
        if not all(map(is_, current, touched)):  # some were dropped, and of these some have another in their place
            last = [now is None or now is cell for now, cell in zip(current, touched, strict=True)]
            identities, touched = list(compress(identities, last)), list(compress(touched, last))
        contents = self._kind(name).dump_all(touched)
        for identity in list(compress(identities, map(is_, contents, repeat(None)))):
            column.pop(identity, None)
        return identities, contents

    def _kind(self, name: str) -> type[Cell]:
        return kind_of(self.declared.states[name])

    def restore(self, state: RootState) -> None:
        """Takes back what snapshots held.

        Raises:
            CheckpointError: it does not fit what the step declares.
        """
        self._restore_files(state)
        for chunks in state.keyed:
            settings: dict[bool, dict[Any, Timer]] = {True: {}, False: {}}
            for data in chunks:
                self._apply(Chunk(self.declared, data), state.mine, settings)
            for event, timers in settings.items():
                self._queue(event).set_all(timers)
        # A chain of changes may go on from what was restored only while the same worker has the same keys.
        self._whole_next = True

    def _restore_files(self, state: RootState) -> None:
        if any(state.files):
            raise CheckpointError.unfit(
                f"step '{self.declared.step}': the checkpoint holds its state in the files of a store: "
                "run the job with --state_backend=rocksdb, as when it was taken"
            )

    def _apply(
        self, chunk: Chunk, mine: Callable[[int], bool] | None, settings: dict[bool, dict[Any, Timer]]
    ) -> None:
        """Takes the cells of a chunk, and what it changes of the settings of timers, by name for each time domain."""
        ids, earlier = self._ids, any(settings.values())

        def is_mine(key: Any) -> bool:
            return mine is None or mine(ids.group(key, KEY_GROUPS))

        for name, window, keys, contents in chunk.cells():
            if mine is not None:
                ours = list(map(is_mine, keys))
                keys, contents = list(compress(keys, ours)), list(compress(contents, ours))
            self._put(name, window, keys, contents)
        for event, spec, key, window, tag, timer in chunk.timers():
            if mine is None or is_mine(key):
                known, setting = settings[event], (spec.name, ids.of(key), window, tag)
                if earlier:
                    known.pop(setting, None)  # a later setting has a later place
                if timer is not None:
                    known[setting] = timer

    def _put(self, name: str, window: Any, keys: list[Any], contents: list[Any]) -> None:
        """Puts contents in their places, for good."""
        asleep = self._enter(window).serialized
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

