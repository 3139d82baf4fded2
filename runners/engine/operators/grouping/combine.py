"""Combining: accumulators gathered before the exchange, merged after it."""

from __future__ import annotations

from itertools import islice
from typing import Any

from apache_beam.transforms import combiners, core
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.keys import KeyIds, key_coder
from sage.runners.engine.core.sizes import KEY_OVERHEAD, size_of_values
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import RAISED, naming, raise_step_error
from sage.runners.engine.operators.base.late import behind_watermark
from sage.runners.engine.operators.base.operator import Op, Output
from sage.runners.engine.operators.grouping.changes import Table
from sage.runners.engine.operators.grouping.group import WindowTables

MERGE_EVERY = 16
SAMPLE_KEYS = 64


class MergeRoot(WindowTables):
    """Merges accumulators by key and window, and puts out results at the window's end."""

    def __init__(self, step: spec.MergeCombine, output: Output, context: TaskContext) -> None:
        super().__init__(step, output, context)
        self._fn: Any = step.combine_fn

    def open(self) -> None:
        with naming(self.step.name, self.context):
            self._fn.setup()

    def close(self) -> None:
        with naming(self.step.name, self.context):
            self._fn.teardown()

    def add(self, table: Table, values: list[Any]) -> None:
        ids, keys, merge = self.ids, self.keys, self._fn.merge_accumulators
        direct = ids.direct
        for key, accumulator in values:
            if key.__class__ in direct:
                identity = key
            else:
                identity = ids.of(key)
                keys.setdefault(identity, key)
            found = table.get(identity)
            if found is None:
                table[identity] = [accumulator]
            else:
                found.append(accumulator)
                if len(found) >= MERGE_EVERY:
                    table[identity] = [merge(found)]

    def joined(self, contents: list[Any], values: list[Any]) -> list[Any]:
        contents += values
        return [self._fn.merge_accumulators(contents)] if len(contents) >= MERGE_EVERY else contents

    def packed(self, window: Any, table: Table) -> bytes:
        merge = self._fn.merge_accumulators
        for identity, found in table.items():
            if len(found) > 1:
                table[identity] = [merge(found)]
        return super().packed(window, table)

    def spill(self) -> None:
        # Sizes were added up as accumulators came, and merging may have made one of many: look again first.
        before = self.used_bytes
        for window in self.tables:
            size = sum(map(_size, self.layers(window)))
            self._memory.shrink(self, self._bytes.get(window, 0) - size)
            self._bytes[window] = size
        if self.used_bytes > before // 2:
            super().spill()

    def results(self, keys: list[Any], gathered: list[Any]) -> list[Any]:
        # One accumulator is merged too, as on Beam's runners: what a function makes of it may differ.
        merge, extract = self._fn.merge_accumulators, self._fn.extract_output
        return [(key, extract(merge(found))) for key, found in zip(keys, gathered, strict=True)]


def _size(table: Table) -> int:
    sample = list(islice(table.values(), 0, None, max(1, len(table) // SAMPLE_KEYS)))
    return len(table) * (KEY_OVERHEAD + sum(map(size_of_values, sample)) // max(1, len(sample)))


WRAPPERS = (core.CallableWrapperCombineFn, core.NoSideInputsCallableWrapperCombineFn)
"""Beam's wrappers of a plain function; their accumulators are lists of values."""

_SHARING = (*WRAPPERS, combiners.CountCombineFn, combiners.MeanCombineFn)


class _Apart(dict):  # type: ignore[type-arg]
    """A table in which no accumulator is found again: each that is set for a key is one more."""

    def __contains__(self, key: Any) -> bool:
        return False

    def get(self, key: Any, default: Any = None) -> Any:
        return default

    def __setitem__(self, key: Any, accumulator: Any) -> None:
        super().__setitem__(len(self), (key, accumulator))

    def items(self) -> Any:
        return self.values()


class PreCombineOp(Op):
    """Gathers values into accumulators until the bundle ends or the tables are large.

    There is a table for each set of windows that elements are in, where one accumulator can serve them all; else for
    each window.

    A table that was sent is emptied and stays the same object until the bundle ends: compiled code holds on to it.

    In a window that may be over, each value has an accumulator of its own: those that come too late to be merged are
    counted by elements then.
    """

    MAX_KEYS = 50_000
    MAX_WINDOWS = 10_000
    MIN_VALUES = 4_096
    VALUES_PER_KEY = 64
    """Beam's wrapper of a plain function calls it on every ten values or so; a longer list costs less per value."""

    def __init__(self, step: spec.PreCombine, output: Output, context: TaskContext) -> None:
        self.step = step
        self.fn: Any = step.combine_fn
        self._output = output
        self._context = context
        self.ids = KeyIds(key_coder(context.collections[step.inputs[0]].coder))
        self.shares = type(self.fn) in _SHARING
        self._tables: dict[tuple[Any, ...], dict[Any, Any] | _Apart] = {}
        self._keys: dict[Any, Any] = {}
        self._windows = 0
        self.allowance = self.MIN_VALUES
        self._metrics = context.metrics_of(step.name)

    def open(self) -> None:
        with naming(self.step.name, self._context):
            self.fn.setup()

    def close(self) -> None:
        with naming(self.step.name, self._context):
            self.fn.teardown()

    def process(self, value: WindowedValue) -> None:
        for window in value.windows:
            self.add((window,), (value.value,))

    def process_block(self, block: Block) -> None:
        if not isinstance(block.windows, list):
            for window in block.windows:
                self.add((window,), block.values)
            return
        for value, windows in block.windowed():
            for window in windows:
                self.add((window,), (value,))

    def table(self, windows: tuple[Any, ...]) -> dict[Any, Any] | _Apart:
        """The accumulators of elements that are in these windows, by key identity."""
        table = self._tables.get(windows)
        if table is None:
            self._windows += 1
            if self._windows > self.MAX_WINDOWS:
                self.send()
            table = self._tables[windows] = _Apart() if behind_watermark(windows) else {}
        return table

    def identify(self, key: Any) -> Any:
        """The identity of a key that does not stand for itself; the key is remembered."""
        identity = self.ids.of(key)
        self._keys.setdefault(identity, key)
        return identity

    def add(self, windows: tuple[Any, ...], values: Any) -> None:
        """Gathers key-value pairs that are in these windows."""
        table = self.table(windows)
        fn, identify = self.fn, self.identify
        create, add, direct = fn.create_accumulator, fn.add_input, self.ids.direct
        try:
            with self._context.tracker.within(self._metrics):
                for key, value in values:
                    identity = key if key.__class__ in direct else identify(key)
                    if identity in table:
                        table[identity] = add(table[identity], value)
                    else:
                        table[identity] = add(create(), value)
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context, keyed=True)
        if len(table) >= self.MAX_KEYS:
            self.send()

    def settle(self) -> int:
        """Makes accumulators that are lists of values short; how many values may then come before it is called again.

        Sends them all if a table has as many keys as it may.
        """
        tables = self._tables.values()
        if any(len(table) >= self.MAX_KEYS for table in tables):
            self.send()
            return self.MIN_VALUES
        compact, keys = self.fn.compact, 0
        for table in tables:
            keys += len(table)
            for key, values in table.items():
                if len(values) > 1:
                    table[key] = compact(values)
        return max(self.MIN_VALUES, keys * self.VALUES_PER_KEY)

    def finish_bundle(self) -> None:
        self.send()
        self._tables.clear()

    def send(self) -> None:
        """Hands on all accumulators."""
        keys, self._keys = self._keys, {}
        self._windows = 0
        compact = self.fn.compact
        for windows, table in self._tables.items():
            if not table:
                continue
            try:
                with self._context.tracker.within(self._metrics):
                    rows = [
                        (keys[identity] if identity.__class__ is tuple else identity, compact(accumulator))
                        for identity, accumulator in table.items()
                    ]
            except RAISED as error:
                raise_step_error(self.step.name, error, self._context)
            table.clear()
            for window in windows[1:]:
                # Whoever merges accumulators may do it in place, so each window has lists of its own.
                own = [(key, list(contents) if contents.__class__ is list else contents) for key, contents in rows]
                self._output.receive_block(Block(own, window.max_timestamp(), (window,)))
            self._output.receive_block(Block(rows, windows[0].max_timestamp(), windows[:1]))
