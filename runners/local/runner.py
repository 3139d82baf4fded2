"""LocalRunner: runs any Beam pipeline in this process, or in worker processes beside it."""

from __future__ import annotations

import sys
from typing import Any

from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineRunner, PipelineState
from apache_beam.transforms import environments

from sage.errors import Location
from sage.handle import announce
from sage.options import SageOptions
from sage.runners.engine.context import JobContext, VirtualClock
from sage.runners.engine.dataflow import Dataflow
from sage.runners.engine.spec import Plan, TestStream
from sage.runners.local.clock import WallClock
from sage.runners.local.progress import progress_of
from sage.runners.local.result import LocalResult
from sage.runners.plan import plan_pipeline
from sage.trace import caller_location


class LocalRunner(PipelineRunner):
    """Runs a pipeline on the engine in this process; ``--workers=N`` runs it in N worker processes.

    Args:
        is_drain: whether unbounded restrictions are truncated, as when a job is drained.
    """

    def __init__(self, is_drain: bool = False) -> None:
        super().__init__()
        self._draining = is_drain
        self._locations: dict[str, Location] = {}

    def default_pickle_library_override(self) -> str:
        return "cloudpickle"

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        label = _current_label(input)
        if label is not None:
            location = caller_location(sys._getframe(1))
            if location is not None:
                self._locations[label] = location
        return super().apply(transform, input, options)

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> LocalResult:
        RuntimeValueProvider.set_runtime_options({})
        pipeline.visit(
            group_by_key_input_visitor(not options.view_as(TypeOptions).allow_non_deterministic_key_coders)
        )
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
        return self.run_plan(plan_pipeline(proto), options)

    def run_plan(self, plan: Plan, options: PipelineOptions) -> LocalResult:
        """Runs a plan to its end in this process."""
        sage = options.view_as(SageOptions)
        wall = WallClock()
        virtual = any(isinstance(stage.root, TestStream) for stage in plan.stages)
        job = JobContext(
            clock=VirtualClock(wall.now_micros()) if virtual else wall,
            locations=dict(self._locations),
            execution_path=sage.execution_path,
            memory_bytes=sage.memory_limit,
            draining=self._draining,
        )
        previous = job.tracker.install()
        try:
            flow = Dataflow(plan, job)
            result = LocalResult("job", job, lambda: progress_of(flow, result.state))
            announce(result)
            _run(flow, job, result)
        finally:
            job.tracker.restore(previous)
        return result


def _run(flow: Dataflow, job: JobContext, result: LocalResult) -> None:
    result.become(PipelineState.RUNNING)
    try:
        flow.open()
        while not result.cancelled:
            if flow.step():
                continue
            wakeup = flow.next_wakeup()
            if wakeup is None:
                break
            if isinstance(job.clock, VirtualClock):
                job.clock.micros = max(job.clock.micros, wakeup)
            else:
                job.clock.sleep_until(wakeup)  # type: ignore[attr-defined]
    except BaseException:
        result.become(PipelineState.FAILED)
        _close_quietly(flow)
        raise
    result.become(PipelineState.CANCELLED if result.cancelled else PipelineState.DONE)
    flow.close()


def _close_quietly(flow: Dataflow) -> None:
    try:
        flow.close()
    except Exception:
        return  # the failure that brought us here is the one to report


def _current_label(input: Any) -> str | None:
    pipeline = getattr(input, "pipeline", None)
    if pipeline is None and isinstance(input, tuple | list) and input:
        pipeline = getattr(input[0], "pipeline", None)
    if pipeline is None and isinstance(input, dict) and input:
        pipeline = getattr(next(iter(input.values())), "pipeline", None)
    return None if pipeline is None else str(pipeline._current_transform().full_label)


def group_by_key_input_visitor(deterministic: bool) -> Any:
    """Beam's check that what is grouped is keyed; it moved between the supported versions."""
    try:
        from apache_beam.runners.pipeline_utils import group_by_key_input_visitor as visitor
    except ImportError:
        from apache_beam.runners.common import group_by_key_input_visitor as visitor
    return visitor(deterministic)
