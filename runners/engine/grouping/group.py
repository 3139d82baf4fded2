"""Grouping under the default trigger: each window of each key fires once, when the watermark passes its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apache_beam.transforms.trigger import DefaultTrigger
from apache_beam.transforms.window import TimestampCombiner
from apache_beam.utils import windowed_value
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import TaskContext
from sage.runners.engine.edge import TARGET_BYTES
from sage.runners.engine.failures import RAISED, raise_step_error
from sage.runners.engine.keyed.keys import KeyIds, key_coder, value_coder
from sage.runners.engine.ops import Output
from sage.runners.engine.root import Root
from sage.runners.engine.spec import Step
from sage.runners.engine.spilling.runs import Codec, Run, merge_runs, write_run
from sage.runners.engine.spilling.sizes import size_of_pairs
from sage.runners.engine.spilling.spill import cut, pieces

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

    Subclasses say how values are gathered (`add`) and what comes out (`results`). What is gathered for a key is a
    list, or, for a group that was spilled and does not fit in memory, something to iterate over.
    """

    held = 0

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        source = context.collections[step.inputs[0]]
        self.step = step
        self.context = context
        self.ids = KeyIds(key_coder(source.coder))
        self.tables: dict[Any, dict[Any, Any]] = {}
        self.keys: dict[Any, Any] = {}
        self._output = output
        self._expiry: dict[Any, int] = {}
        self._due: list[Any] = []
        self._memory = context.job.memory
        self._bytes: dict[Any, int] = {}
        self._runs: dict[Any, list[Run]] = {}
        self._codec = Codec(key_coder(source.coder), value_coder(source.coder))
        self._firing = False
        self._memory.join(self)

    def table(self, window: Any) -> dict[Any, Any] | None:
        """The table of a window; None if the watermark has passed the window's end."""
        table = self.tables.get(window)
        if table is None:
            end = int(window.max_timestamp().micros)
            if self.watermark > end:
                return None
            table = self.tables[window] = {}
            self._expiry[window] = end
        return table

    def process_block(self, port: int, block: Block) -> None:
        try:
            if not isinstance(block.windows, list):
                for window in block.windows:
                    self._gather(window, block.values)
                return
            by_windows: dict[Any, list[Any]] = {}
            for value, windows in zip(block.values, block.windows, strict=True):
                for window in windows:
                    by_windows.setdefault(window, []).append(value)
            for window, values in by_windows.items():
                self._gather(window, values)
        except RAISED as error:
            raise_step_error(self.step.name, error, self.context, keyed=True)

    def _gather(self, window: Any, values: list[Any]) -> None:
        table = self.table(window)
        if table is None or not values:
            return
        if not self._memory.limited:
            self.add(table, values)
            return
        before = len(table)
        self.add(table, values)
        size = size_of_pairs(values, len(table) - before)
        self._bytes[window] = self._bytes.get(window, 0) + size
        self._memory.grow(self, size)

    def add(self, table: dict[Any, Any], values: list[Any]) -> None:
        """Gathers key-value pairs of one window."""
        raise NotImplementedError(type(self))

    def results(self, keys: list[Any], gathered: list[Any]) -> list[Any]:
        """What comes out for these keys."""
        raise NotImplementedError(type(self))

    def shed(self) -> None:
        """Moves all tables to disk."""
        for window, table in self.tables.items():
            if table:
                run = write_run(table, self.key_of, self._codec, self._memory)
                self._runs.setdefault(window, []).append(run)
            self._memory.shrink(self, self._bytes.pop(window, 0))
        if not self._firing:
            self.keys.clear()

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        self._due = [window for window, end in self._expiry.items() if watermark > end]
        return bool(self._due)

    def fire(self) -> None:
        due, self._due = self._due, []
        due.sort(key=self._expiry.__getitem__)
        self._firing = True
        for window in due:
            del self._expiry[window]
            stamp, windows = window.max_timestamp(), (window,)
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
        if not self.tables:
            self.keys.clear()

    def _fire_table(self, window: Any) -> Iterator[list[Any]]:
        """The results of a window that is in memory, in order of first arrival of the keys."""
        table, memory, keys = self.tables.pop(window), self._memory, self.keys
        size = self._bytes.pop(window, 0)
        left = size
        memory.lend(self, size)
        order = list(table)
        for start in range(0, len(order), self.context.block_rows):
            some = order[start : start + self.context.block_rows]
            # Taken out of the table as they go on, so that they are free as soon as nobody downstream wants them.
            gathered = list(map(table.pop, some))
            if keys:
                some = [keys[identity] if identity.__class__ is tuple else identity for identity in some]
            yield from cut(self.results(some, gathered), TARGET_BYTES)
            part = size * len(some) // len(order)
            memory.repay(part)
            left -= part
        memory.repay(left)

    def _fire_spilled(self, window: Any) -> Iterator[list[Any]]:
        """The results of a window that is on disk: what is left of it in memory goes there too, then all is merged."""
        table, runs = self.tables.pop(window), self._runs.pop(window)
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


class GroupRoot(WindowTables):
    """GroupByKey under the default trigger: a list of values for each key and window."""

    def add(self, table: dict[Any, Any], values: list[Any]) -> None:
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
