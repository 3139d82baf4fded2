"""What every host's runner does: takes a pipeline from Beam, refuses what it cannot run, and starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    StreamingOptions,
    TypeOptions,
)
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms import environments

from sage.errors import Location
from sage.handle import announce
from sage.options import SageOptions
from sage.runners.deployment.nesting import check_may_start
from sage.runners.deployment.recovery import AttemptCheckpoints
from sage.runners.deployment.worker_spec import PipelineProto, WorkerSpec
from sage.runners.driver.explanation import ExplainedStep, explain_plan
from sage.runners.driver.result import JobResult, RunningJob
from sage.runners.driver.serialising import serialising
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.engine.serde import pickling
from sage.runners.features import refuse
from sage.runners.plan import plan_pipeline
from sage.runners.plan.compatibility import as_of, keyed_first
from sage.runners.plan.created import created_in
from sage.runners.plan.packing import pack_combines
from sage.runners.plan.uses import Feature, Use, uses_of
from sage.trace import caller_location


class HostRunner(PipelineRunner):
    """A Beam runner that has the engine run a pipeline on some host; a subclass says how that host starts it.

    Args:
        is_drain: whether unbounded restrictions are truncated, as when a job is drained.
    """

    host = ""
    """The host's name, as the features table has it."""

    takes_epochs = False
    """Whether the host drives sinks in two phases, and takes checkpoints."""

    def __init__(self, is_drain: bool = False) -> None:
        super().__init__()
        self._draining = is_drain
        self._locations: dict[str, Location] = {}
        self._created: dict[str, Any] = {}

    def start(self, proto: PipelineProto, options: PipelineOptions) -> RunningJob:
        """Plans a pipeline that this host can run; it runs when the result's ``run`` is called."""
        raise NotImplementedError(type(self))

    def default_pickle_library_override(self) -> str:
        return "cloudpickle"

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        # Beam 2.61 sets its default, dill, with the pipeline, and tries it on each function that comes.
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        label = _current_label(input)
        if not self._locations:
            check_may_start()
        if label is not None:
            location = caller_location(sys._getframe(1))
            if location is not None:
                self._locations[label] = location
        return super().apply(transform, input, options)

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> JobResult:
        return self.run_proto(self._serialized(pipeline, options), options)

    def explain_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> list[ExplainedStep]:
        """How each step of a pipeline would run here, in the order of the plan; nothing of it runs.

        Raises:
            ConfigError: an option has a value that cannot be.
            UnsupportedFeature: this host cannot run the pipeline.
            InvalidPipeline: a part of the pipeline cannot be decoded here.
        """
        proto = self._prepared(self._serialized(pipeline, options), options)
        refuse(uses_of(proto), self.host)
        workers = options.view_as(SageOptions).workers
        plan = plan_pipeline(proto, workers, self._created)
        return explain_plan(plan, self.job_options(options, workers))

    def _serialized(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineProto:
        RuntimeValueProvider.set_runtime_options({})
        deterministic = not options.view_as(TypeOptions).allow_non_deterministic_key_coders
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        keyed_first(pipeline)
        with serialising(self._locations):
            pipeline.visit(group_by_key_input_visitor(deterministic))
            proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
        self._created = created_in(pipeline)
        return proto

    def run_proto(self, proto: PipelineProto, options: PipelineOptions) -> JobResult:
        """Runs a pipeline proto to its end.

        Raises:
            ConfigError: an option has a value that cannot be, or this process is a worker of another job.
            UnsupportedFeature: this host cannot run the pipeline; nothing of it has run.
            InvalidPipeline: a part of the proto cannot be decoded here.
            StepError: a step of the user's pipeline raised.
            WorkerLost: a worker process died.
        """
        check_may_start(options.view_as(SageOptions).checked().workers)
        options.get_all_options()  # Beam warns of options that nobody knows: once is enough
        proto = self._prepared(proto, options)
        uses = uses_of(proto)
        refuse(uses, self.host)
        running = self.start(proto, options)
        result = JobResult(job_name(options), running)
        announce(result)
        if goes_on(uses):
            result.start()
        else:
            result.run()
        return result

    @staticmethod
    def _prepared(proto: PipelineProto, options: PipelineOptions) -> PipelineProto:
        """The pipeline as it is planned, under options that can be."""
        options.view_as(SageOptions).checked()
        proto = as_of(proto, options.view_as(StreamingOptions).update_compatibility_version)
        return proto if options.view_as(StandardOptions).streaming else pack_combines(proto)

    def job_options(self, options: PipelineOptions, workers: int) -> JobOptions:
        """How the job is to run at each of so many workers."""
        sage = options.view_as(SageOptions)
        return JobOptions(
            locations=dict(self._locations),
            execution_path=sage.execution_path,
            memory_bytes=None if sage.memory_limit is None else sage.memory_limit // workers,
            streaming=options.view_as(StandardOptions).streaming,
            draining=self._draining,
            bundle_micros=sage.max_bundle_time * 1_000,
            job=job_name(options),
            epochs=self.takes_epochs,
            checkpoints=self.takes_epochs and sage.checkpoint_dir is not None,
            state_backend=sage.state_backend,
            state_dir=sage.state_dir,
            allow_dropped_state=sage.allow_dropped_state,
            drift_micros=sage.max_watermark_drift * 1_000 or None,
        )

    def worker_specs(
        self, proto: PipelineProto, options: PipelineOptions, checkpoints: AttemptCheckpoints | None = None
    ) -> list[WorkerSpec]:
        """One order for each worker; they begin from ``checkpoints``, if there are any."""
        sage = options.view_as(SageOptions)
        data, classes = proto.SerializeToString(), pickling.classes_of_main()
        return [
            WorkerSpec(
                proto=data,
                worker=index,
                workers=sage.workers,
                options=self.job_options(options, sage.workers),
                spill_dir=sage.spill_dir,
                path=tuple(sys.path),
                directory=os.getcwd(),
                checkpoints=checkpoints,
                classes=classes,
            )
            for index in range(sage.workers)
        ]


def goes_on(uses: Iterable[Use]) -> bool:
    """Whether a pipeline has no end of its own, so that whoever starts it does not wait for it."""
    features = {use.feature for use in uses}
    return Feature.UNBOUNDED in features and Feature.TEST_STREAM not in features


def job_name(options: PipelineOptions) -> str:
    """The job's name, the same for a job that is resumed: ``--job_name``, else the name of the script or module."""
    # Not from all options, for then Beam would warn of each that is the job's own.
    return str(options.view_as(GoogleCloudOptions).job_name or _program() or "sage-job")


def _program() -> str:
    """What is run, as ``python job.py`` or ``sage run package.job`` name it; empty where it names no job."""
    program = Path(sys.argv[0])
    if program.suffix in (".py", ".yaml", ".yml"):
        return program.parent.name if program.stem == "__main__" else program.stem
    module = program.suffix[1:]
    return module if module.isidentifier() else ""


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
