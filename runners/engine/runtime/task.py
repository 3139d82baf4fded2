"""A task: one stage at one worker, with its bundle life cycle and its watermarks."""

from __future__ import annotations

from collections.abc import Callable

from sage.errors import InvalidPipeline
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, StageSnapshot, StageState
from sage.runners.engine.codegen import compile_stage
from sage.runners.engine.core import spec
from sage.runners.engine.core.adaptive_batch import TURNS_PER_BUNDLE, AdaptiveBatchSize
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.core.spec import CollectionId
from sage.runners.engine.operators.base.context import JobContext, TaskContext, streams
from sage.runners.engine.operators.base.operator import Op, Output
from sage.runners.engine.operators.base.root import Root, SourceRoot
from sage.runners.engine.operators.base.stage_output import StageOutput
from sage.runners.engine.operators.reading.sources import TestStreamRoot
from sage.runners.engine.operators.side_inputs.gate import SideInputGate
from sage.runners.engine.operators.two_phase_sink import TransactionalOp
from sage.runners.engine.runtime.build import make_op, make_root
from sage.runners.engine.runtime.bundles import BundleLimits, works_per_bundle
from sage.transactions import Deferred

MOST_ROWS = 1 << 16


class Task:
    """Runs one stage.

    Ports number the stage's inputs: the root's main inputs first, then its side inputs.

    In a stream a stage with work to do for each bundle (`works_per_bundle`) keeps its bundle open as `limits` has it:
    what comes, time, and watermarks do not end it. A watermark that comes meanwhile is taken up when the bundle ends,
    and the stage's own watermark stands still, for the end of the bundle may put out what came before.

    Args:
        stage: what to run.
        plan: the job it is part of.
        job: what the host hands in.
        emit: where blocks that leave the stage go.
        own_time: a clock (microseconds) that stands still while other stages run; None where none run inside.
    """

    def __init__(
        self,
        stage: spec.Stage,
        plan: spec.Plan,
        job: JobContext,
        emit: Callable[[CollectionId, Block], None],
        own_time: Callable[[], int] | None = None,
    ) -> None:
        self.stage = stage
        self.inputs = stage.ports
        self._main_ports = len(stage.root.inputs)
        self._watermarks = [MIN_MICROS] * len(self.inputs)
        self._in_bundle = False
        self._is_set_up = False
        self.received = 0
        self.emitted_watermark = MIN_MICROS  # the output watermark, as far as the stages behind know it
        self.busy_micros = 0
        self.portion = AdaptiveBatchSize(MOST_ROWS, job.options.bundle_micros // TURNS_PER_BUNDLE)
        self._now = job.clock.now_micros
        self._own_time = own_time or self._now
        self._deferred_watermarks: dict[int, int] = {}  # watermarks that came while a bundle was open, by port
        context = TaskContext(job, plan.collections, emit, streams(plan, job.options))
        self._tracker = job.tracker
        self._metrics = job.metrics_of(stage.root.name)
        self.outputs = {c: Output(c) for step in stage.steps for c in step.outputs.values()}
        self.ops: list[Op] = []
        for step in stage.fused:
            op = make_op(step, self.outputs, context)
            self.outputs[step.inputs[0]].consumers.append(op)
            self.ops.append(op)
        self.leaving = plan.leaving(stage)
        for collection in self.leaving:
            edge = StageOutput(collection, context)
            self.outputs[collection].consumers.append(edge)
            self.ops.append(edge)
        self.root = make_root(stage.root, self.outputs, context)
        self._in_portions = context.streams and self.root.accepts_partial_blocks
        keeps_open = context.streams and any(map(works_per_bundle, stage.steps))
        self.limits = BundleLimits(job.options.bundle_micros) if keeps_open else None
        self._steps: list[Op] = [*self.root.ops, *self.ops]
        self._sinks = [op for op in self._steps if isinstance(op, TransactionalOp)]
        self._worker = job.worker
        self._defers = job.options.checkpoints
        compile_stage(stage, self.outputs, self.root.entry, context)

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def is_source(self) -> bool:
        """Whether the stage makes elements of its own accord."""
        return isinstance(self.root, SourceRoot)

    @property
    def over(self) -> bool:
        """Whether the stage is a source that has nothing left to give."""
        return isinstance(self.root, SourceRoot) and self.root.over

    @property
    def in_bundle(self) -> bool:
        """Whether a bundle is open."""
        return self._in_bundle

    def open(self) -> None:
        """Set-up of every step, once. What may get nothing at all waits with it for its first bundle."""
        if self.stage.partition != "gather" or self._sinks:
            self._set_up()

    def _set_up(self) -> None:
        self._is_set_up = True  # and to be torn down, also where it fails
        for op in self.ops:
            op.open()
        self.root.open()

    def close(self) -> None:
        """Tear-down of every step, once; a step's failure does not keep the others from theirs."""
        failed: Exception | None = None
        parts: list[Root | Op] = [self.root, *self.ops] if self._is_set_up else []
        for part in parts:
            try:
                part.close()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _begin(self) -> None:
        if not self._in_bundle:
            self._in_bundle = True
            if self.limits is not None:
                self.limits.begin(self._now())
            if not self._is_set_up:
                self._set_up()
            for op in reversed(self.ops):
                op.start_bundle()
            self.root.start_bundle()

    def end_bundle(self) -> None:
        """Ends the open bundle, if there is one, and takes up the watermarks that came meanwhile."""
        while self._in_bundle:
            began = self._own_time()
            self._finish()
            if self.limits is not None:
                self.limits.end(self._own_time() - began)
                deferred, self._deferred_watermarks = self._deferred_watermarks, {}
                for port, watermark in deferred.items():
                    self.advance(port, watermark)

    def _finish(self) -> None:
        if self._in_bundle:
            with self._tracker.within(self._metrics):
                self.root.finish_bundle()
            for op in self.ops:
                op.finish_bundle()
            self._in_bundle = False
            if not self._defers:
                for op in self._steps:
                    op.on_barrier()
                    op.finalize_bundle()

    # Checkpoints.

    def restore(self, state: StageState | None) -> None:
        """Called after `open` and before anything else, with what a checkpoint holds for this task, if there is one."""
        if state is not None:
            self._watermarks[: self._main_ports] = [state.watermark] * self._main_ports
            self.root.watermark = state.watermark
            with self._tracker.within(self._metrics):
                self.root.restore(state.root)
        for sink in self._sinks:
            earlier = (self._worker,) if state is None else state.earlier
            sink.recover(earlier, state.sinks.get(sink.id, ()) if state is not None else ())

    def snapshot(self, epoch: int, whole: bool) -> StageSnapshot:
        """What the task holds: all its input before the barrier is in, all its output before the barrier is out."""
        self.end_bundle()
        for op in self._steps:
            op.on_barrier()
        sinks = {sink.id: prepared for sink in self._sinks if (prepared := sink.prepare(epoch))}
        root = self.root.snapshot(whole) if self._defers else RootSnapshot()
        return StageSnapshot(self.input_watermark, root, sinks)

    def on_checkpoint_complete(self) -> list[Deferred]:
        """The last snapshot is part of a durable checkpoint: sinks commit, finalizers run. Gives what may wait."""
        rest = [later for sink in self._sinks for later in sink.commit()]
        for op in self._steps:
            op.finalize_bundle()
        self.root.on_checkpoint_complete()
        return rest

    def drain(self) -> None:
        """What the task reads of its own accord ends here."""
        self.end_bundle()
        self.root.drain()

    def batch_size(self, port: int) -> int:
        """How many elements it should be given at a time (count)."""
        if not self._in_portions or port >= self._main_ports:
            return MOST_ROWS
        return self.portion.size if self.limits is None else min(self.portion.size, self.limits.room)

    def receive(self, port: int, block: Block) -> None:
        """Takes a block."""
        self.received += len(block)
        began = self._own_time()
        self._begin()
        with self._tracker.within(self._metrics):
            self.root.process_block(port, block)
        if self.limits is not None:
            self.limits.add(len(block) if port < self._main_ports else 0, self._own_time() - began)

    def poll(self) -> bool:
        """Lets a source make some elements; False when it has no more."""
        if not isinstance(self.root, SourceRoot):
            raise InvalidPipeline(f"stage {self.name} is not a source")
        self._begin()
        more = self.root.poll()
        self.root.over = not more
        self.end_bundle()
        return more

    def advance(self, port: int, watermark: int) -> None:
        """The watermark of an input port moved on to ``watermark`` (microseconds)."""
        if self.limits is not None and self._in_bundle and watermark < MAX_MICROS:
            self._deferred_watermarks[port] = watermark
            return
        self._watermarks[port] = max(self._watermarks[port], watermark)
        self.end_bundle()
        if port >= self._main_ports and isinstance(self.root, SideInputGate):
            if self.root.advance_side(port, self._watermarks[port]):
                self.fire()
        elif self.input_watermark > self.root.watermark and self.root.advance(self.input_watermark):
            self.fire()

    def fire(self) -> None:
        """Puts out what time made ready: in a bundle of its own, or in that which is kept open."""
        if self.limits is None:
            self.end_bundle()
        before, began = self._made, self._own_time()
        self._begin()
        with self._tracker.within(self._metrics):
            self.root.fire()
        if self.limits is not None:
            self.limits.add(self._made - before, self._own_time() - began)
        if self.limits is None or (self.input_watermark >= MAX_MICROS and self.root.wakeup() is None):
            self.end_bundle()

    @property
    def _made(self) -> int:
        """How many elements the root put out (count)."""
        return sum(self.outputs[c].count for c in self.stage.root.outputs.values())

    @property
    def at_end(self) -> bool:
        """Whether every input has ended, side inputs too, and nothing is left to put out."""
        return all(mark >= MAX_MICROS for mark in self._watermarks) and not self._in_bundle

    @property
    def input_watermark(self) -> int:
        """The least watermark (microseconds) of the main inputs."""
        return min(self._watermarks[: self._main_ports], default=MAX_MICROS)

    def output_watermark(self, collection: CollectionId) -> int:
        """No element before this event time (microseconds) will leave the stage any more."""
        if isinstance(self.root, TestStreamRoot):
            tags = {c: tag for tag, c in self.stage.root.outputs.items()}
            marks = self.root.watermarks
            return marks[tags[collection]] if collection in tags else min(marks.values())
        return min(self.input_watermark, self.root.hold())
