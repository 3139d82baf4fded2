"""LocalRunner: runs any Beam pipeline in this process, or in worker processes beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import ConfigError
from sage.options import SageOptions
from sage.runners.deployment.nesting import check_may_start
from sage.runners.deployment.recovery import RecoveryOptions, warn_of
from sage.runners.deployment.worker_spec import PipelineProto
from sage.runners.driver.base_runner import HostRunner, job_name
from sage.runners.driver.result import RunningJob
from sage.runners.engine.core.spec import ParDo, Plan, TestStream
from sage.runners.engine.operators.base.context import VirtualClock
from sage.runners.local.in_process_job import InProcessJob
from sage.runners.local.multi_process_job import MultiProcessJob
from sage.runners.local.zygote import prepare
from sage.runners.plan import plan_pipeline
from sage.runners.worker.clock import WallClock


class LocalRunner(HostRunner):
    """Runs a pipeline on the engine in this process; ``--workers=N`` runs it in N worker processes.

    Args:
        is_drain: whether unbounded restrictions are truncated, as when a job is drained.
    """

    host = "local"

    takes_epochs = True

    _expects_workers = False

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        if not self._expects_workers:
            self._expects_workers = True
            check_may_start()
            with contextlib.suppress(ConfigError):  # it is told when the pipeline is run
                if options.view_as(SageOptions).checked().workers > 1:
                    prepare()
        return super().apply(transform, input, options)

    def start(self, proto: PipelineProto, options: PipelineOptions) -> RunningJob:
        sage = options.view_as(SageOptions)
        durability = RecoveryOptions.of(sage, job_name(options))
        plan = plan_pipeline(proto, sage.workers, self._created)
        test_stream = any(isinstance(stage.root, TestStream) for stage in plan.stages)
        if test_stream:
            plan = _with_remote_events(plan)
        else:
            warn_of(plan, durability)
        # A test stream fixes one order of events for the whole job, which only one worker can keep; and what Beam
        # is to collect into this process's memory, as for `[1, 2] | beam.Map(f)`, only this process can.
        if sage.workers > 1 and not test_stream and not _collects_in_driver(plan):
            return MultiProcessJob(plan, lambda kept: self.worker_specs(proto, options, kept), durability)
        wall = WallClock()
        clock = VirtualClock() if test_stream else wall
        return InProcessJob(_afresh(plan, proto), clock, self.job_options(options, 1), durability, sage.spill_dir)


def _afresh(first: Plan, proto: PipelineProto) -> Callable[[], Plan]:
    """The plan, and for later attempts another one of functions that were never used."""
    made = [first]
    return lambda: made.pop() if made else plan_pipeline(proto, 1)


def _collects_in_driver(plan: Plan) -> bool:
    return any(
        isinstance(step, ParDo) and type(step.dofn.fn).__name__ == "_MaterializeValuesDoFn"
        for stage in plan.stages
        for step in stage.steps
    )


def _with_remote_events(plan: Plan) -> Plan:
    # Not at the top: gRPC takes its time to import, and few test streams come from a service.
    from sage.runners.plan.remote_events import with_remote_events

    return with_remote_events(plan)
