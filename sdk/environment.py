"""Environments: where a job begins, and what it is run with.

An environment holds one real Beam pipeline. Its config is Beam options by name (SAGE's among them), so there is one
list of options for the fluent front, for Beam and for the command line.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineRunner

from sage.checks import check_keys
from sage.dofns import ReadSource
from sage.errors import ConfigError, SageError
from sage.functions import SourceFunction
from sage.operators import declared_output, element_of, resolve
from sage.options import SageOptions
from sage.runner_names import RUNNERS
from sage.sources import ReadStream, StreamSource
from sage.steps import Steps
from sage.streams import Stream
from sage.submission import SubmittedJob, submit

if TYPE_CHECKING:
    from apache_beam.runners.runner import PipelineResult
    from typing_extensions import Unpack

    from sage.steps import StepOptions

__all__ = ["Environment", "LocalEnvironment"]


class Environment:
    """A job in the making.

    Where config and ``options`` say nothing, the command line's flags count (``--workers=4``), as Beam reads them.

    Args:
        name: the job's name.
        config: options by name: SAGE's (``workers``, ``memory_limit``, ``spill_dir`` ...), any of Beam's, and
            ``runner``: ``local``, ``ray``, ``flink``, a Beam runner by name, or a ``PipelineRunner``.
        options: Beam options to start from, in place of the command line's.

    Raises:
        ConfigError: a key is unknown, a value does not fit, or the runner cannot be loaded.
    """

    def __init__(
        self, name: str = "job", config: Mapping[str, Any] | None = None, options: PipelineOptions | None = None
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"an environment's name must be a text that is not empty, not {name!r}")
        self.name = name
        self.config = dict(config or {})
        owner = f"{type(self).__name__}({name!r})"
        options = _options(owner, name, config if config is not None else {}, options)
        runner = self.config.get("runner") or options.view_as(StandardOptions).runner or self._default_runner()
        self._pipeline = _pipeline(owner, runner, options)
        self._steps = Steps(self._pipeline)

    def _default_runner(self) -> str | None:
        """The runner where nothing names one; None for Beam's default."""
        return None

    @property
    def pipeline(self) -> beam.Pipeline:
        """The Beam pipeline behind the environment; Beam transforms may be applied to it as well."""
        return self._pipeline

    @property
    def options(self) -> PipelineOptions:
        """The Beam options that the pipeline runs with."""
        return self._pipeline.options

    def from_collection(self, values: Iterable[Any], *, output_type: Any = None, **step: Unpack[StepOptions]) -> Stream:
        """A stream of values that this process holds.

        Args:
            values: the elements; ``TimestampedValue`` objects carry event time.
            output_type: the type of the elements; inferred where left out.
            **step: see `StepOptions`.
        """
        create = beam.Create(values)
        if output_type is not None:
            create = create.with_output_types(output_type)
        label = self._steps.label("from_collection", step)
        return Stream(self._steps, self._steps.apply(self._pipeline, create, label, step))

    def from_source(
        self,
        source: Any,
        config: Mapping[str, Any] | None = None,
        *,
        output_type: Any = None,
        **step: Unpack[StepOptions],
    ) -> Stream:
        """A stream read from outside.

        Args:
            source: a Beam transform that reads; a `SourceFunction` or a `StreamSource`, or such a class with
                ``config``; or a function without positional parameters that gives an iterable.
            config: constructor parameters of a class; keyword arguments of a function.
            output_type: the type of the elements, where annotations do not say it.
            **step: see `StepOptions`.

        Raises:
            ConfigError: the source or the config does not fit.
        """
        if isinstance(source, beam.PTransform):
            if config is not None:
                raise ConfigError(
                    f"from_source({source.label}): config goes with a class; a transform has its arguments already"
                )
            label = self._steps.label(f"from_source({source.label})", step)
            return Stream(self._steps, self._steps.apply(self._pipeline, source, label, step))
        operator = resolve("from_source", source, (SourceFunction, StreamSource), config, positional=0)
        label = self._steps.label(operator.label, step)
        if isinstance(operator.function, StreamSource):
            stream = ReadStream(operator.function)
            return Stream(self._steps, self._steps.apply(self._pipeline, stream, label, step))
        if operator.is_object:
            function, method = operator.function, type(operator.function).read
        else:
            function, method = _CallSource(operator.bound()), operator.function
        read = ReadSource(function, label, output_type or element_of(declared_output(method)))
        return Stream(self._steps, self._steps.apply(self._pipeline, read, label, step))

    def from_pcollection(self, pcollection: beam.PCollection) -> Stream:
        """A Beam collection of this environment's pipeline as a stream.

        Raises:
            ConfigError: the collection belongs to another pipeline.
        """
        if pcollection.pipeline is not self._pipeline:
            raise ConfigError("from_pcollection: the collection belongs to another pipeline than env.pipeline")
        return Stream(self._steps, pcollection)

    def submit(self) -> SubmittedJob:
        """Start the job and return at once, with the handle that observes and steers it.

        The job runs in a thread of this process, and Python waits for it when the script ends (Beam's own runners do
        not stand that: with them, wait for the handle). What the job raises comes from the handle's
        ``wait_until_finish``, and is logged.
        """
        return submit(self._pipeline, self.name)

    def execute(self) -> PipelineResult:
        """Run the job to its end.

        Returns:
            Beam's result, with the job's metrics.

        Raises:
            StepError: a step raised (other runners than SAGE's raise what they raise).
            UnsupportedFeature: the runner cannot run this pipeline.
        """
        result = self._pipeline.run()
        result.wait_until_finish()
        return result


class LocalEnvironment(Environment):
    """A job that runs on this machine, on SAGE's own runner.

    Under ``sage run --runner=...`` the runner named there is taken, unless config names one::

        env = LocalEnvironment("word count", {"workers": 2, "memory_limit": "512MB"})
        words = env.from_collection(["a b", "b"]).flat_map(str.split)
        words.map(lambda word: (word, 1)).as_keyed().aggregate(sum).sink(print)
        env.execute()
    """

    def _default_runner(self) -> str:
        default = StandardOptions.DEFAULT_RUNNER
        return default if default in RUNNERS.values() else RUNNERS["local"]


class _CallSource(SourceFunction[Any]):
    """A source that is one call of a function."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def read(self, split: Any) -> Iterable[Any]:
        return self.function()


def _options(owner: str, name: str, config: Mapping[str, Any], base: PipelineOptions | None) -> PipelineOptions:
    """The Beam options of a config over a base, or over the command line."""
    own = _names(SageOptions)
    classes: list[type[PipelineOptions]] = [SageOptions, *_option_classes()]
    known = [key for cls in classes for key in _names(cls)]
    check_keys(owner, "config", config, ["runner", *known], f"runner, {', '.join(own)}, and every Beam option")
    given = {key: value for key, value in config.items() if key != "runner"}
    # Text and numbers are parsed as flags, by the option's own type; flags cannot say False or None.
    as_flags = {key: value for key, value in given.items() if value is not None and not isinstance(value, bool)}
    flags = [flag for key, value in as_flags.items() for flag in _flags(key, value)]
    with _refusing_exit(owner):
        PipelineOptions(flags).get_all_options()
    overrides = base.get_all_options(drop_default=True) if base is not None else {}
    overrides = {key: value for key, value in {**overrides, **given}.items() if key not in as_flags}
    options = PipelineOptions([*(sys.argv[1:] if base is None else ()), *flags], **overrides)
    with _refusing_exit(owner):
        options.view_as(SageOptions)
    if not options.view_as(GoogleCloudOptions).job_name:
        options.view_as(GoogleCloudOptions).job_name = name
    if options.view_as(SetupOptions).pickle_library == "default":
        # Beam 2.61 defaults to dill, which loses the globals of __main__ in another process.
        options.view_as(SetupOptions).pickle_library = "cloudpickle"
    return options


def _option_classes() -> list[type[PipelineOptions]]:
    return list({str(cls): cls for cls in PipelineOptions.__subclasses__()}.values())


def _names(cls: type[PipelineOptions]) -> list[str]:
    return sorted(vars(cls([])._visible_options))


def _flags(key: str, value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [f"--{key}={part}" for part in value]
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}"]


@contextlib.contextmanager
def _refusing_exit(owner: str) -> Iterator[None]:
    """An option's parser ends the process when a value is wrong; make its last words a ConfigError."""
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            yield
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from None
    except SystemExit:
        output = words.getvalue().strip().splitlines() or ["an option's value does not fit"]
        raise ConfigError(f"{owner}: {output[-1].partition('error: ')[2] or output[-1]}") from None


def _pipeline(owner: str, runner: Any, options: PipelineOptions) -> beam.Pipeline:
    if isinstance(runner, str):
        runner = RUNNERS.get(runner, runner)
    elif runner is not None and not isinstance(runner, PipelineRunner):
        raise ConfigError(f"{owner}: runner must be a name or a PipelineRunner, not {type(runner).__name__}")
    try:
        return beam.Pipeline(runner=runner, options=options)
    except SageError:
        raise
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(f"{owner}: {error}") from error
