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
from sage.runners.engine.keys import KeyIds, key_coder
from sage.runners.engine.ops import Output, raise_step_error
from sage.runners.engine.root import Root
from sage.runners.engine.spec import Step

ONLY_PANE = PaneInfo(True, True, windowed_value.PaneInfoTiming.ON_TIME, 0, 0)


def fires_once(windowing: Any) -> bool:
    """Whether each window fires exactly once, at its end, with the end as the timestamp."""
    return bool(
        isinstance(windowing.triggerfn, DefaultTrigger)
        and not windowing.windowfn.is_merging()
        and windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
        and not windowing.allowed_lateness
    )


class WindowTables(Root):
    """State of a grouping: for each open window, a table from key identity to what is gathered.

    Subclasses say how values are gathered (`add`) and what comes out (`results`).
    """

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
        self._dropped = context.metrics_of(step.name)

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
                    table = self.table(window)
                    if table is not None:
                        self.add(table, block.values)
                return
            by_windows: dict[Any, list[Any]] = {}
            for value, windows in zip(block.values, block.windows, strict=True):
                for window in windows:
                    by_windows.setdefault(window, []).append(value)
            for window, values in by_windows.items():
                table = self.table(window)
                if table is not None:
                    self.add(table, values)
        except Exception as error:
            raise_step_error(self.step.name, error, self.context)

    def add(self, table: dict[Any, Any], values: list[Any]) -> None:
        """Gathers key-value pairs of one window."""
        raise NotImplementedError(type(self))

    def results(self, table: dict[Any, Any]) -> Iterator[Any]:
        """What comes out of a window, in order of first arrival of the keys."""
        raise NotImplementedError(type(self))

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        self._due = [window for window, end in self._expiry.items() if watermark > end]
        return bool(self._due)

    def fire(self) -> None:
        due, self._due = self._due, []
        due.sort(key=self._expiry.__getitem__)
        limit = self.context.block_rows
        for window in due:
            table = self.tables.pop(window)
            del self._expiry[window]
            stamp, windows = window.max_timestamp(), (window,)
            rows: list[Any] = []
            for row in self._results(table):
                rows.append(row)
                if len(rows) >= limit:
                    self._output.receive_block(Block(rows, stamp, windows, ONLY_PANE))
                    rows = []
            if rows:
                self._output.receive_block(Block(rows, stamp, windows, ONLY_PANE))
        if not self.tables:
            self.keys.clear()

    def _results(self, table: dict[Any, Any]) -> Iterator[Any]:
        results = self.results(table)
        while True:
            try:
                row = next(results)
            except StopIteration:
                return
            except Exception as error:
                raise_step_error(self.step.name, error, self.context)
            yield row

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

    def results(self, table: dict[Any, Any]) -> Iterator[Any]:
        key_of = self.key_of
        for identity in list(table):
            yield key_of(identity), table.pop(identity)
