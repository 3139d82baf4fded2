"""Blocks that wait for something, in order; what does not fit in memory waits on disk."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam import coders

from sage.runners.engine.core.blocks import MAX_MICROS, Block, TimestampColumn
from sage.runners.engine.core.sizes import size_of_values
from sage.runners.engine.core.spec import Collection
from sage.runners.engine.memory.manager import MemoryManager, SpillArea
from sage.runners.engine.serde.values import Codec

COLUMN_BYTES = 120  # a timestamp, a tuple of windows or a pane of its own


class Backlog:
    """State: blocks with their port, the older ones on disk; the earliest timestamp among them, and their windows.

    Args:
        sources: the collection behind each port.
        memory: what this worker's groupings share.
    """

    used_bytes = 0

    def __init__(self, sources: Sequence[Collection], memory: MemoryManager) -> None:
        general = coders.FastPrimitivesCoder()
        self._codecs = [Codec(general, source.coder) for source in sources]
        self._memory = memory
        self._spilled: list[tuple[SpillArea, int, int]] = []
        self._blocks: list[tuple[int, Block]] = []
        self.earliest = MAX_MICROS
        self.windows: set[Any] = set()
        memory.register(self)

    def __bool__(self) -> bool:
        return bool(self._blocks or self._spilled)

    def append(self, port: int, block: Block) -> None:
        """Keeps a block that came to a port."""
        self._blocks.append((port, block))
        stamps = block.timestamps
        if isinstance(stamps, TimestampColumn):
            first = stamps.minimum
        else:
            first = int((min(stamps) if isinstance(stamps, list) else stamps).micros)
        self.earliest = min(self.earliest, first)
        for windows in set(block.windows) if isinstance(block.windows, list) else {block.windows}:
            self.windows.update(windows)
        if self._memory.limited:
            columns = sum(isinstance(column, list) for column in (stamps, block.windows, block.panes))
            self._memory.grow(self, size_of_values(block.values) + COLUMN_BYTES * columns * len(block))

    def spill(self) -> None:
        """Moves all to disk."""
        blocks, self._blocks = self._blocks, []
        area = self._memory.area()
        for port, block in blocks:
            values = self._codecs[port].pack_values(block.values)
            data = pickle.dumps((port, values, block.timestamps, block.windows, block.panes), 5)
            self._spilled.append((area, area.append(data), len(data)))
        self._memory.shrink(self, self.used_bytes)

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Every block that is there, in order; they stay."""
        for area, place, size in self._spilled:
            yield self._read(area.read(place, size))
        yield from self._blocks

    def _read(self, data: bytes) -> tuple[int, Block]:
        port, values, *columns = pickle.loads(data)
        return port, Block(self._codecs[port].unpack_values(values), *columns)

    def take(self) -> Iterator[tuple[int, Block]]:
        """Takes out every block that is there, in order; what is appended meanwhile stays."""
        spilled, self._spilled = self._spilled, []
        blocks, self._blocks = self._blocks, []
        self.earliest, self.windows = MAX_MICROS, set()
        lent = self.used_bytes
        self._memory.begin_release(self, lent)
        for area, place, size in spilled:
            yield self._read(area.read(place, size))
        yield from blocks
        blocks.clear()
        self._memory.end_release(lent)
