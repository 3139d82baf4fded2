"""The end of a stage: what leaves it is gathered into blocks."""

from __future__ import annotations

from typing import Any

from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.sizes import approximate_size
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.operator import Op

TARGET_BYTES = 4 << 20
FIRST_ROWS = 64


class StageOutput(Op):
    """Gathers the elements of one collection and sends them on, cut by count and by size, and in a stream by time.

    State: the open block, or its rows. The count at which it is cut grows from a few to
    the job's ``block_rows`` while a look at single values says that it stays within `TARGET_BYTES`. In a stream an
    element waits no longer than a bundle may be open: until a block was cut by count or by time, the clock is
    looked at when one is there, two, four and so on; then the count is what comes in that time.
    """

    def __init__(self, collection: spec.CollectionId, context: TaskContext) -> None:
        self.collection = collection
        self._emit = context.emit
        self._rows: list[WindowedValue] = []
        self._block: Block | None = None
        self._most = context.block_rows
        self._limit = min(FIRST_ROWS, self._most)
        self._now = context.clock.now_micros if context.streams else None
        self._max_wait = context.job.options.bundle_micros
        self._timed = not context.streams
        self._check_at = self._limit if self._timed else 1
        self._began = 0

    def start_bundle(self) -> None:
        if self._now is not None:
            self._began = self._now()

    def process(self, value: WindowedValue) -> None:
        if self._block is not None:
            self._flush()
        self._rows.append(value)
        if len(self._rows) >= self._check_at:
            self._check_clock(len(self._rows))

    def process_block(self, block: Block) -> None:
        self._flush()
        self._emit(self.collection, block)

    def capacity(self) -> int:
        """How many values the next list may have."""
        return self._check_at

    def append(self, values: list[Any], stamp: Any, windows: Any, pane: Any) -> None:
        """Takes values; of the rest, each is shared by all of them or a list."""
        block = Block(values, stamp, windows, pane)
        if self._timed:
            self._flush()
            self._send(block)
            return
        joined = None if self._block is None or self._rows else self._block.joined(block)
        if joined is None:
            self._flush()
        self._block = joined or block
        if len(self._block) >= self._check_at:
            self._check_clock(len(self._block))

    def finish_bundle(self) -> None:
        self._flush()

    def _check_clock(self, count: int) -> None:
        """There are as many as were to be there: it is time, or there may be twice as many."""
        if count >= self._limit or (self._now is not None and self._now() - self._began >= self._max_wait):
            self._timed = True
            self._flush()
        else:
            self._check_at = min(2 * count, self._limit)

    def _flush(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            self._send(Block.of(rows))
        elif self._block is not None:
            block, self._block = self._block, None
            self._send(block)

    def _send(self, block: Block) -> None:
        self._measure(block.values)
        self._emit(self.collection, block)

    def _measure(self, values: list[Any]) -> None:
        """Says how many the next block may have."""
        per_row = max(approximate_size(values[0]), approximate_size(values[-1]), 1)
        limit = min(self._most, self._limit * 4, TARGET_BYTES // per_row)
        if self._now is not None:
            began, self._began = self._began, self._now()
            limit = min(limit, len(values) * self._max_wait // max(self._began - began, 1))
        self._limit = max(1, limit)
        self._check_at = self._limit if self._timed else min(self._check_at, self._limit)
