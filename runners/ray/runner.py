"""RayRunner: runs any bounded Beam pipeline in Ray actors."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import MissingExtra
from sage.options import SageOptions
from sage.runners.deployment.worker_spec import PipelineProto
from sage.runners.driver.base_runner import HostRunner
from sage.runners.driver.result import RunningJob
from sage.runners.plan import plan_pipeline


class RayRunner(HostRunner):
    """Runs a pipeline on the engine in Ray actors, one for each of ``--workers``.

    The job runs on the Ray that this process is connected to. If it is connected to none, it connects to the one that
    ``RAY_ADDRESS`` names, else it starts one on this machine, which stays up until the process ends.

    Args:
        is_drain: whether unbounded restrictions are truncated, as when a job is drained.
    """

    host = "ray"

    def start(self, proto: PipelineProto, options: PipelineOptions) -> RunningJob:
        try:
            from sage.runners.ray.job import RayJob
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise MissingExtra("the Ray runner", "ray") from error
        sage = options.view_as(SageOptions)
        plan_pipeline(proto, sage.workers)  # what cannot be planned fails here, before any actor is asked for
        return RayJob(self.worker_specs(proto, options))
