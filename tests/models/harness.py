"""Runs one root of the engine by itself: what goes in is given by hand, what comes out is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apache_beam import coders
from apache_beam.transforms.core import Windowing

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.operators.base.context import JobContext, JobOptions, TaskContext, VirtualClock
from sage.runners.engine.operators.base.operator import Op, Output
from sage.runners.engine.operators.base.root import Root
from tests.models.spill_store import MemoryStore

INPUT, OUTPUT = spec.CollectionId("in"), spec.CollectionId("out")


class Kept(Op):
    """Keeps the blocks that come."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def process_block(self, block: Block) -> None:
        self.blocks.append(block)

    def process(self, value: Any) -> None:
        self.blocks.append(Block.of([value]))


class Harness:
    """A root with an input and an output of its own.

    Args:
        make: the root of an output and a context, as ``lambda output, context: GroupRoot(STEP, output, context)``.
        windowing: Beam's windowing of the input.
        limit: the memory limit (bytes); None for none.
        coder: the coder of the input.
        bounded: whether the input ends.
        checkpoints: whether the job takes any.
        others: more collections that the root knows.
    """

    def __init__(
        self,
        make: Callable[[Output, TaskContext], Root],
        windowing: Windowing,
        limit: int | None = None,
        coder: Any = None,
        bounded: bool = True,
        checkpoints: bool = False,
        others: Mapping[spec.CollectionId, spec.Collection] | None = None,
    ) -> None:
        general = coders.FastPrimitivesCoder()
        coder = coder or coders.TupleCoder([general, general])
        self.store = MemoryStore()
        self.clock = VirtualClock()
        options = JobOptions(memory_bytes=limit, block_rows=64, checkpoints=checkpoints)
        self.job = JobContext(self.clock, options, self.store)
        collections = {INPUT: spec.Collection(INPUT, "in", coder, windowing, bounded), **(others or {})}
        output = Output(OUTPUT)
        self.kept = Kept()
        output.consumers.append(self.kept)
        self.root = make(output, TaskContext(self.job, collections, lambda _collection, _block: None))
        self.root.open()

    def advance(self, watermark: int) -> None:
        if self.root.advance(watermark):
            self.root.fire()

    def wake(self, now: int) -> None:
        """The clock moves on to ``now`` (microseconds)."""
        self.clock.micros = max(now, self.clock.micros)
        while (due := self.root.wakeup()) is not None and due <= self.clock.micros:
            self.root.fire()

    def rows(self) -> list[tuple[Any, Any]]:
        """What came out so far, as (element, its one window), in order."""
        return [(value, window) for block in self.kept.blocks for value, _, (window,), _ in block.rows()]
