"""LocalRunner: runs any Beam pipeline in this process, or in worker processes beside it."""

from __future__ import annotations

import os
import sys
from typing import Any

from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.pipeline import Pipeline
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms import environments

from sage.errors import Location
from sage.handle import announce
from sage.options import SageOptions
from sage.runners.engine.context import JobContext, VirtualClock
from sage.runners.engine.spec import TestStream
from sage.runners.hosting.clock import WallClock
from sage.runners.local.cluster import Cluster
from sage.runners.local.inprocess import InProcess
from sage.runners.hosting.textlines import fast_read
from sage.runners.hosting.result import LocalResult, Running
from sage.runners.local.worker import Order
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
        return self.run_proto(proto, options)

    def run_proto(self, proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> LocalResult:
        """Runs a pipeline proto to its end."""
        sage = options.view_as(SageOptions)
        plan = plan_pipeline(proto)
        test_stream = any(isinstance(stage.root, TestStream) for stage in plan.stages)
        running: Running
        # A test stream fixes one order of events for the whole job, which only one worker can keep.
        if sage.workers > 1 and not test_stream:
            running = Cluster([self._order(proto, sage, index) for index in range(sage.workers)])
        else:
            running = InProcess(plan, self._context(sage, test_stream), sage.spill_dir)
        result = LocalResult(str(options.get_all_options().get("job_name") or "sage-job"), running)
        announce(result)
        result.run()
        return result

    def _context(self, sage: SageOptions, virtual: bool) -> JobContext:
        wall = WallClock()
        return JobContext(
            clock=VirtualClock(wall.now_micros()) if virtual else wall,
            locations=dict(self._locations),
            execution_path=sage.execution_path,
            memory_bytes=sage.memory_limit,
            draining=self._draining,
            fast_read=fast_read,
        )

    def _order(self, proto: beam_runner_api_pb2.Pipeline, sage: SageOptions, index: int) -> Order:
        return Order(
            proto=proto.SerializeToString(),
            worker=index,
            workers=sage.workers,
            locations=dict(self._locations),
            execution_path=sage.execution_path,
            memory_bytes=None if sage.memory_limit is None else sage.memory_limit // sage.workers,
            spill_dir=sage.spill_dir,
            draining=self._draining,
            path=tuple(sys.path),
            directory=os.getcwd(),
        )


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
