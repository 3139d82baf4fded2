"""Roots: what stands at the head of a stage and decides when its fused steps run.

The contract of a `Root`, which every kind keeps:

1. ``open`` once before anything else, ``close`` once after everything, also after a failure.
2. ``process_block`` and ``fire`` are called inside a bundle only, with the input watermark as ``advance`` last
   set it. Outputs go to the root's `Output` before the call returns.
3. ``advance`` is called outside a bundle, with a watermark that never goes back. It says by its result whether
   ``fire`` has something to do.
4. ``hold`` is the earliest event time (microseconds) that the root may still put out, apart from its input.
5. ``snapshot`` is called between bundles and gives all that the root would need to go on elsewhere; ``restore`` is
   called after ``open`` and before anything else, with ``watermark`` set, and never on a root that was used.
"""

from __future__ import annotations

from typing import Any

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.core.spec import CollectionId
from sage.runners.engine.operators.base.late import LateRecords
from sage.runners.engine.operators.base.operator import Op, Output


class Root:
    """The head of a stage."""

    watermark: int = MIN_MICROS
    reads_external: bool = False
    """Whether it may read from outside, of its own accord."""
    behind: bool = False
    """Whether it left something unread when it last read: as much came as it asked for."""
    accepts_partial_blocks: bool = False
    """Whether steps that take one element after another run as a block comes: it may come in portions."""
    late: LateRecords | None = None
    """Counts the elements that it drops as late; None where it drops none."""
    entry: Output | None = None
    """Where the elements enter, for a root that only hands them to a step; compiled code may stand in front."""

    def open(self) -> None:
        """Set-up, once."""

    def start_bundle(self) -> None:
        """A bundle begins."""

    def process_block(self, port: int, block: Block) -> None:
        """Takes a block that came to an input port."""
        raise NotImplementedError(type(self))

    def advance(self, watermark: int) -> bool:
        """The input watermark (microseconds) moved on; whether ``fire`` should be called."""
        self.watermark = watermark
        return False

    def fire(self) -> None:
        """Puts out what the watermark or the clock made ready."""

    def wakeup(self) -> int | None:
        """The processing time (microseconds) at which ``fire`` wants to be called, if any."""
        return None

    @property
    def reading(self) -> bool:
        """Whether there is more to read though all input has come. May be asked from any thread."""
        return False

    def hold(self) -> int:
        """The earliest event time (microseconds) still to come out, apart from the input."""
        return MAX_MICROS

    def snapshot(self, whole: bool) -> RootSnapshot:
        """What the root holds, between bundles.

        Args:
            whole: whether all of it is wanted; else a root may give what changed since the last call.
        """
        return RootSnapshot()

    def restore(self, state: RootState) -> None:
        """Takes back what snapshots held."""

    def on_checkpoint_complete(self) -> None:
        """The last snapshot is part of a durable checkpoint."""

    def drain(self) -> None:
        """No more input is to be taken from outside: what the root reads of its own accord ends here."""

    @property
    def ops(self) -> tuple[Op, ...]:
        """The steps that the root runs itself."""
        return ()

    def finish_bundle(self) -> None:
        """A bundle ends."""

    def close(self) -> None:
        """Tear-down, once."""


class PassRoot(Root):
    """Hands blocks on: a flatten, or the far side of an exchange."""

    accepts_partial_blocks = True

    def __init__(self, output: Output) -> None:
        self._output = output

    def process_block(self, port: int, block: Block) -> None:
        self._output.receive_block(block)


class StepRoot(Root):
    """A root that runs one step: the step's life is the root's."""

    def __init__(self, op: Op) -> None:
        self.op = op

    @property
    def ops(self) -> tuple[Op, ...]:
        return (self.op,)

    def open(self) -> None:
        self.op.open()

    def start_bundle(self) -> None:
        self.op.start_bundle()

    def finish_bundle(self) -> None:
        self.op.finish_bundle()

    def close(self) -> None:
        self.op.close()


class OpRoot(StepRoot):
    """A step at the head of a stage that needs nothing but its elements."""

    entry: Output
    accepts_partial_blocks = True

    def __init__(self, op: Op, source: CollectionId) -> None:
        super().__init__(op)
        self.entry = Output(source)
        self.entry.consumers.append(op)

    def process_block(self, port: int, block: Block) -> None:
        self.entry.receive_block(block)


class SourceRoot(Root):
    """Has no input: `poll` makes elements until it says that there are no more."""

    over = False

    def poll(self) -> bool:
        """Puts out some elements, inside a bundle; False when there is nothing left."""
        raise NotImplementedError(type(self))

    def snapshot(self, whole: bool) -> RootSnapshot:
        # Sources run at the first worker, and what every worker is given is the first one's.
        return RootSnapshot(shared=b"over" if self.over else b"")

    def restore(self, state: RootState) -> None:
        self.over = state.shared == b"over"


class ImpulseRoot(SourceRoot):
    """One empty element."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def poll(self) -> bool:
        self._output.receive_block(Block([b""]))
        return False


class EmptyRoot(SourceRoot):
    """Nothing: a flatten of no collections."""

    def poll(self) -> bool:
        return False


def micros_of(timestamp: Any) -> int:
    """Microseconds of a Beam timestamp."""
    return int(timestamp.micros)
