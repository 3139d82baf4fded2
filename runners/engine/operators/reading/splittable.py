"""Splittable DoFns: restrictions made, split, processed, deferred and resumed."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.runners.common import DoFnSignature, Receiver
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.utils.timestamp import Duration, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import naming
from sage.runners.engine.operators.base.operator import Op, Output, ParDoOp
from sage.runners.engine.operators.base.root import StepRoot
from sage.runners.engine.serde.wire import decode_row, encode_row

OUTPUTS_PER_TICK = 64
BOUNDED_TURN_MICROS = 1_000_000


def _providers(fn: Any) -> tuple[RestrictionProvider, WatermarkEstimatorProvider]:
    signature = DoFnSignature(fn)
    return signature.get_restriction_provider(), signature.get_watermark_estimator_provider()


class SplitRestrictionsOp(Op):
    """Element in, its sized restrictions out."""

    def __init__(self, step: spec.SplitRestrictions, output: Output, context: TaskContext) -> None:
        self.step = step
        self._output = output
        self._context = context
        self._restrictions, self._estimators = _providers(step.dofn.fn)
        self._metrics = context.metrics_of(step.name)

    def process(self, value: WindowedValue) -> None:
        with self._context.tracker.within(self._metrics), naming(self.step.name, self._context):
            parts = self._split(value.value)
        for part in parts:
            self._output.receive(value.with_value(part))

    def _split(self, element: Any) -> list[Any]:
        provider, estimators = self._restrictions, self._estimators
        whole = provider.initial_restriction(element)
        parts = []
        for part, size in provider.split_and_size(element, whole):
            if self._context.job.options.draining:
                truncated = provider.truncate(element, part)
                if not truncated:
                    continue
                part, size = truncated, provider.restriction_size(element, truncated)
            parts.append(((element, (part, estimators.initial_estimator_state(element, part))), size))
        return parts


class _Watched(Receiver):
    """An output that tells of every so many elements."""

    def __init__(self, output: Output, tick: Callable[[], None], every: int) -> None:
        self._output = output
        self._tick = tick
        self._every = self._left = every

    def receive(self, windowed_value: WindowedValue) -> None:
        self._output.receive(windowed_value)
        self._left -= 1
        if not self._left:
            self._left = self._every
            self._tick()


class SplittableRoot(StepRoot):
    """Processes restrictions; what a DoFn defers waits for its time and holds the watermark.

    A restriction that takes longer than its time is split where it stands: what is left of it waits like what a DoFn
    defers, so that the bundle ends, the watermark moves and others get their turn.

    State: the residuals, each with its resume time (microseconds) and the watermark it reported.
    """

    op: ParDoOp
    reads_external = True

    def __init__(
        self,
        step: spec.ParDo,
        outputs: dict[str | None, Output],
        context: TaskContext,
        side_inputs: Sequence[Any] = (),
    ) -> None:
        batches = getattr(step.dofn.fn, "output_batch_converter", None)
        every = 1 if context.streams else OUTPUTS_PER_TICK  # a step behind may take long for each
        watched: Any = outputs if batches else {t: _Watched(out, self._tick, every) for t, out in outputs.items()}
        super().__init__(ParDoOp(step, watched, context, side_inputs))
        self._context = context
        self._bounded = all(context.collections[out.collection].bounded for out in outputs.values())
        self._turn = BOUNDED_TURN_MICROS if self._bounded else context.job.options.bundle_micros
        self._provider, _ = _providers(step.dofn.fn)
        self._turn_ends = MAX_MICROS
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, int, WindowedValue]] = []

    def process_block(self, port: int, block: Block) -> None:
        if self._bounded:
            for value in block.windowed_values():
                self._process(value)
            return
        # One turn after another, so that what else there is to do, as a barrier, has its turn between them.
        now = self._context.clock.now_micros()
        for value in block.windowed_values():
            self._wait(now, MIN_MICROS, value)

    def _process(self, value: WindowedValue) -> None:
        self._turn_ends = self._context.clock.now_micros() + self._turn
        self._put_off(self.op.guarded(self.op.runner.process_with_sized_restriction, value))

    def _tick(self) -> None:
        """Some outputs came: splits the restriction at hand when its time is up."""
        if self._context.clock.now_micros() >= self._turn_ends:
            self._turn_ends = MAX_MICROS
            split = self.op.runner.try_split(0.0)
            if split is not None:
                _, residuals = split
                self._put_off(residuals)

    def _put_off(self, residuals: Any) -> None:
        now = self._context.clock.now_micros()
        for residual in residuals or ():
            wait = residual.deferred_timestamp
            if isinstance(wait, Timestamp):
                resume = wait.micros
            else:
                resume = now + (Duration.of(wait).micros if wait else 0)
            mark = residual.current_watermark
            hold = MIN_MICROS if mark is None else mark.micros
            self._wait(resume, hold, residual.residual_value)

    def _wait(self, resume: int, hold: int, value: WindowedValue) -> None:
        heapq.heappush(self._waiting, (resume, next(self._numbers), hold, value))

    def wakeup(self) -> int | None:
        return self._waiting[0][0] if self._waiting else None

    @property
    def reading(self) -> bool:
        return bool(self._waiting)

    def fire(self) -> None:
        now = self._context.clock.now_micros()
        ends = now + self._turn
        last = next(self._numbers)
        while self._waiting and self._waiting[0][:2] <= (now, last):
            self._process(heapq.heappop(self._waiting)[3])
            if self._context.clock.now_micros() >= ends:
                return

    def hold(self) -> int:
        return min((hold for _, _, hold, _ in self._waiting), default=MAX_MICROS)

    def snapshot(self, whole: bool) -> RootSnapshot:
        return RootSnapshot(spread=[encode_row(value, (resume, hold)) for resume, _, hold, value in self._waiting])

    def restore(self, state: RootState) -> None:
        for data in state.spread:
            value, (resume, hold) = decode_row(data)
            self._wait(resume, hold, value)

    def drain(self) -> None:
        """What is unbounded ends; what is left of the rest is processed."""
        waiting, self._waiting = self._waiting, []
        provider = self._provider
        for _, _, hold, value in waiting:
            (element, (restriction, estimator)), _ = value.value
            with naming(self.op.step.name, self._context):
                rest = provider.truncate(element, restriction)
                if rest is None:
                    continue
                size = provider.restriction_size(element, rest)
            self._wait(0, hold, value.with_value(((element, (rest, estimator)), size)))
