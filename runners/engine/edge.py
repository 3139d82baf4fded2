"""The end of a stage: what leaves it is gathered into blocks."""

from __future__ import annotations

from typing import Any

from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine import spec
from sage.runners.engine.blocks import Block
from sage.runners.engine.context import TaskContext
from sage.runners.engine.ops import Op
from sage.runners.engine.spilling.sizes import approximate_size

TARGET_BYTES = 4 << 20
FIRST_ROWS = 64


class EdgeOp(Op):
    """Gathers the elements of one collection and sends them on, cut by count and by size.

    State: the rows of the open block. The count at which a block is cut grows from a few rows to the job's
    ``block_rows`` while a look at single values says that the block stays within `TARGET_BYTES`.
    """

    def __init__(self, collection: spec.CollectionId, context: TaskContext) -> None:
        self.collection = collection
        self._emit = context.emit
        self._rows: list[WindowedValue] = []
        self._most = context.block_rows
        self._limit = min(FIRST_ROWS, self._most)

    def process(self, value: WindowedValue) -> None:
        self._rows.append(value)
        if len(self._rows) >= self._limit:
            self._flush()

    def process_block(self, block: Block) -> None:
        if self._rows:
            self._flush()
        self._emit(self.collection, block)

    def room(self) -> int:
        """How many rows the next block may have."""
        return self._limit

    def take(self, values: list[Any], stamps: Any, windows: Any, panes: Any) -> None:
        """Sends a block of these columns; each but the first is shared, or a list."""
        if self._rows:
            self._flush()
        self._measure(values)
        self._emit(self.collection, Block(values, stamps, windows, panes))

    def finish_bundle(self) -> None:
        if self._rows:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        block = Block.of(rows)
        self._measure(block.values)
        self._emit(self.collection, block)

    def _measure(self, values: list[Any]) -> None:
        per_row = max(approximate_size(values[0]), approximate_size(values[-1]), 1)
        self._limit = max(1, min(self._most, self._limit * 4, TARGET_BYTES // per_row))
