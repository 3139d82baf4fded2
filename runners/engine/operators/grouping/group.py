"""Grouping under the default trigger: each window of each key fires once, when the watermark passes its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from apache_beam.transforms.trigger import DefaultTrigger
from apache_beam.transforms.window import TimestampCombiner
from apache_beam.utils import windowed_value
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.core.deadlines import DeadlineQueue
from sage.runners.engine.core.keys import KeyIds, key_coder, value_coder
from sage.runners.engine.core.sizes import KEY_OVERHEAD, size_of_pairs, size_of_values
from sage.runners.engine.core.spec import Step
from sage.runners.engine.memory.manager import cut, pieces
from sage.runners.engine.memory.runs import Run, merge_runs, write_run
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import RAISED, raise_step_error
from sage.runners.engine.operators.base.late import LateRecords
from sage.runners.engine.operators.base.operator import Output
from sage.runners.engine.operators.base.root import Root
from sage.runners.engine.operators.base.stage_output import TARGET_BYTES
from sage.runners.engine.operators.grouping.changes import Changes, Table, extended, fold
from sage.runners.engine.operators.grouping.rows import KeyedRows, pack_parts, unpack_parts
from sage.runners.engine.serde.values import Codec
from sage.runners.engine.serde.windows import WindowForms

ONLY_PANE = PaneInfo(True, True, windowed_value.PaneInfoTiming.ON_TIME, 0, 0)


def fires_once(windowing: Any) -> bool:
    """Whether each window fires exactly once, at its end, with the end as the timestamp."""
    return bool(
        isinstance(windowing.triggerfn, DefaultTrigger)
        and not windowing.windowfn.is_merging()
        and windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
        and windowing.allowed_lateness.micros == 0
    )


class WindowTables(Root):
    """State of a grouping: for each open window, a table from key identity to what is gathered.

    Where the job takes checkpoints, a table has two layers: what came since the last snapshot is in ``tables``, what
    that snapshot holds in a table of its own.

    Subclasses say how values are gathered (`add`), how two lists of a key are joined, and what comes out (`results`).
    What is gathered for a key is a list, or, for a group that was spilled and does not fit in memory, something to
    iterate over.
    """

    used_bytes = 0
    late: LateRecords

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        source = context.collections[step.inputs[0]]
        self.step = step
        self.context = context
        self.late = LateRecords(step.name, context)
        self.ids = KeyIds(key_coder(source.coder))
        self.tables: dict[Any, Table] = {}
        self.keys: dict[Any, Any] = {}
        self._output = output
        self._open = DeadlineQueue()
        self._memory = context.job.memory
        self._bytes: dict[Any, int] = {}
        self._runs: dict[Any, list[Run]] = {}
        self._codec = Codec(key_coder(source.coder), value_coder(source.coder))
        self._firing = False
        self._notes = context.job.options.checkpoints
        self._base: dict[Any, Table] = {}
        self._fired: list[Any] = []
        self._changes = Changes(self._memory)
        self._rows = KeyedRows(source, value_coder(source.coder))
        self._forms = WindowForms(source.windowing.windowfn)
        self._memory.register(self)

    def table(self, window: Any) -> Table | None:
        """The table of a window; None if the watermark has passed the window's end."""
        table = self.tables.get(window)
        if table is None:
            end = int(window.max_timestamp().micros)
            if self.watermark > end:
                return None
            table = self.tables[window] = {}
            self._open.set(window, end)
        return table

    def process_block(self, port: int, block: Block) -> None:
        try:
            if not isinstance(block.windows, list):
                late = sum(self._gather(window, block.values) for window in block.windows)
            else:
                by_windows: dict[Any, list[Any]] = {}
                for value, windows in zip(block.values, block.windows, strict=True):
                    for window in windows:
                        by_windows.setdefault(window, []).append(value)
                late = sum(self._gather(window, values) for window, values in by_windows.items())
        except RAISED as error:
            raise_step_error(self.step.name, error, self.context, keyed=True)
        if late:
            self.late.drop(late)

    def _gather(self, window: Any, values: list[Any]) -> int:
        """Gathers what is in a window; returns how many of it were dropped as late (count)."""
        table = self.table(window)
        if table is None:
            return len(values)
        if not values:
            return 0
        before = len(table)
        self.add(table, values)
        new = len(table) - before
        if new:
            self.ids.check(list(islice(reversed(table), new)))
        if self._memory.limited:
            self._grow(window, size_of_pairs(values, new))
        return 0

    def _grow(self, window: Any, size: int) -> None:
        self._bytes[window] = self._bytes.get(window, 0) + size
        self._memory.grow(self, size)

    def add(self, table: Table, values: list[Any]) -> None:
        """Gathers key-value pairs of one window."""
        raise NotImplementedError(type(self))

    def joined(self, contents: list[Any], values: list[Any]) -> list[Any]:
        """One list of what was gathered for a key before and after; both are used up."""
        return extended(contents, values)

    def results(self, keys: list[Any], gathered: list[Any]) -> list[Any]:
        """What comes out for these keys."""
        raise NotImplementedError(type(self))

    def layers(self, window: Any) -> list[Table]:
        """The tables of an open window that are in memory."""
        return [table for tables in (self._base, self.tables) if (table := tables.get(window))]

    def _folded(self, window: Any) -> Table:
        """Takes out both layers of a window, as one."""
        return fold(self._base.pop(window, {}), self.tables.pop(window, {}), self.joined)

    def spill(self) -> None:
        """Moves all tables to disk."""
        for window in list(self.tables):
            if self._notes and self.tables[window]:
                self._changes.put(self.packed(window, self.tables[window]))
            if table := self._folded(window):
                run = write_run(table, self.key_of, self._codec, self._memory)
                self._runs.setdefault(window, []).append(run)
            self.tables[window] = {}
            self._memory.shrink(self, self._bytes.pop(window, 0))
        if not self._firing:
            self.keys.clear()

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        end = self._open.earliest()
        return end is not None and watermark > end

    def fire(self) -> None:
        self._firing = True
        for window in self._open.pop_due(self.watermark - 1):
            stamp, windows = window.max_timestamp(), (window,)
            if self._notes:
                self._fired.append(window)
            rows = self._fire_spilled(window) if window in self._runs else self._fire_table(window)
            while True:
                try:
                    piece = next(rows)
                except StopIteration:
                    break
                except RAISED as error:
                    raise_step_error(self.step.name, error, self.context)
                self._output.receive_block(Block(piece, stamp, windows, ONLY_PANE))
        self._firing = False
        self._forget_keys()

    def _forget_keys(self) -> None:
        """Forgets the keys that no table has any more, if they are many."""
        tables = [table for window in self.tables for table in self.layers(window)]
        if len(self.keys) > 2 * sum(map(len, tables)):
            self.keys = {i: self.keys[i] for table in tables for i in table if i.__class__ is tuple}

    def _fire_table(self, window: Any) -> Iterator[list[Any]]:
        """The results of a window that is in memory, in order of first arrival of the keys."""
        table, memory, keys = self._folded(window), self._memory, self.keys
        size = self._bytes.pop(window, 0)
        left = size
        memory.begin_release(self, size)
        order = list(table)
        for start in range(0, len(order), self.context.block_rows):
            some = order[start : start + self.context.block_rows]
            # Taken out of the table as they go on, so that they are free as soon as nobody downstream wants them.
            gathered = list(map(table.pop, some))
            if keys:
                some = [keys[identity] if identity.__class__ is tuple else identity for identity in some]
            yield from cut(self.results(some, gathered), TARGET_BYTES)
            part = size * len(some) // len(order)
            memory.end_release(part)
            left -= part
        memory.end_release(left)

    def _fire_spilled(self, window: Any) -> Iterator[list[Any]]:
        """The results of a window that is on disk: what is left of it in memory goes there too, then all is merged."""
        table, runs = self._folded(window), self._runs.pop(window)
        if table:
            runs.append(write_run(table, self.key_of, self._codec, self._memory))
        self._memory.shrink(self, self._bytes.pop(window, 0))
        groups = merge_runs(runs, self._codec, self._memory.list_bytes)
        rows = (self.results([key], [values])[0] for key, values in groups)
        return pieces(rows, self.context.block_rows, TARGET_BYTES)

    def hold(self) -> int:
        # A window's result carries the window's end, which the watermark has not passed: no hold is needed.
        return MAX_MICROS

    def key_of(self, identity: Any) -> Any:
        """The key behind an identity."""
        return self.keys[identity] if identity.__class__ is tuple else identity

    # Snapshots: windows that fired, and rows of windows. Rows go behind what was there before for their key.

    def snapshot(self, whole: bool) -> RootSnapshot:
        whole = whole or not self._notes
        parts = self._changes.take()
        try:
            if whole:
                parts = [part for window in self.tables for part in self._all_packed(window)]
            else:
                parts += [self.packed(window, table) for window, table in self.tables.items() if table]
            if self._notes:
                for window, table in self.tables.items():
                    if table:
                        self._fold_in(window, table)
        except RAISED as error:
            raise_step_error(self.step.name, error, self.context)
        fired, self._fired = [] if whole else self._fired, []
        if not whole and not parts and not fired:
            return RootSnapshot(None, whole=False)
        return RootSnapshot(pack_parts(list(map(self._forms.form, fired)), parts), whole)

    def _fold_in(self, window: Any, table: Table) -> None:
        base = self._base.get(window, {})
        keys = len(base) + len(table)
        self._base[window] = base = fold(base, table, self.joined)
        self.tables[window] = {}
        if self._memory.limited:
            twice = min((keys - len(base)) * KEY_OVERHEAD, self._bytes.get(window, 0))
            self._bytes[window] = self._bytes.get(window, 0) - twice
            self._memory.shrink(self, twice)

    def _all_packed(self, window: Any) -> Iterator[bytes]:
        """All rows of a window, first those on disk."""
        groups = merge_runs(self._runs.get(window, ()), self._codec, self._memory.list_bytes)
        for piece in pieces(groups, self.context.block_rows, TARGET_BYTES):
            keys = {self.ids.of(key): key for key, _ in piece}
            lists = [list(values) for _, values in piece]
            yield pack_parts(self._forms.form(window), self._rows.pack(list(keys), keys.__getitem__, lists))
        for table in self.layers(window):
            yield self.packed(window, table)

    def packed(self, window: Any, table: Table) -> bytes:
        """The rows of a table as bytes."""
        rows = self._rows.pack(list(table), self.key_of, list(table.values()))
        return pack_parts(self._forms.form(window), rows)

    def restore(self, state: RootState) -> None:
        for chain in state.keyed:
            chunks = list(unpack_parts(chain))
            # A window that fired comes back no more; where workers differ in their watermarks it may be open elsewhere.
            over = {form for fired, _ in chunks for form in fired}
            for _, parts in chunks:
                for form, data in unpack_parts(parts):
                    if form not in over:
                        self._take_back(self._forms.window(form), data, state.mine)

    def _take_back(self, window: Any, data: bytes, mine: Callable[[int], bool] | None) -> None:
        self._open.set(window, int(window.max_timestamp().micros))
        self.tables.setdefault(window, {})
        table = self._base.setdefault(window, {}) if self._notes else self.tables[window]
        size = 0
        for _, identity, key, values in self._rows.unpack(data, mine):
            contents = table.get(identity)
            table[identity] = values if contents is None else self.joined(contents, values)
            if identity.__class__ is tuple:
                self.keys.setdefault(identity, key)
            size += size_of_values(values) + KEY_OVERHEAD * (contents is None)
        if self._memory.limited:
            self._grow(window, size)


class GroupRoot(WindowTables):
    """GroupByKey under the default trigger: a list of values for each key and window."""

    def add(self, table: Table, values: list[Any]) -> None:
        direct, ids, keys = self.ids.direct, self.ids, self.keys
        get = table.get
        for key, value in values:
            if key.__class__ in direct:
                found = get(key)
                if found is None:
                    table[key] = [value]
                else:
                    found.append(value)
            else:
                identity = ids.of(key)
                found = get(identity)
                if found is None:
                    keys.setdefault(identity, key)
                    table[identity] = [value]
                else:
                    found.append(value)

    def results(self, keys: list[Any], gathered: list[Any]) -> list[Any]:
        return list(zip(keys, gathered, strict=True))
