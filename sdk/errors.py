"""Every error SAGE raises on purpose: whose fault it is, where, and whether a retry helps.

Nothing in this module imports Beam, so that `import sage` and a failing command line stay quick.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataLoss",
    "Fault",
    "IncompatibleEnvironment",
    "InvalidPipeline",
    "Location",
    "MissingExtra",
    "Refusal",
    "SageError",
    "StepError",
    "UnsupportedFeature",
    "WorkerLost",
    "message_of",
]


class Fault(enum.Enum):
    """Whose mistake an error is, which decides who should read it."""

    USER_CODE = "user code"
    CONFIGURATION = "configuration"
    ENVIRONMENT = "environment"
    SAGE = "SAGE"


@dataclass(frozen=True)
class Location:
    """A place in a user's source: the line that applied a step, or the line that raised."""

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class SageError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        fault: whose mistake it is.
        retryable: whether the same call may succeed later with nothing changed.
    """

    fault = Fault.SAGE
    retryable = False


class ConfigError(SageError, ValueError):
    """An option, a config key or an argument is wrong; the message names it and what is accepted."""

    fault = Fault.CONFIGURATION


class InvalidPipeline(SageError, ValueError, RuntimeError):
    """The pipeline cannot be planned: a part of it is malformed or cannot be serialised.

    Beam raises ``ValueError`` for the one and ``RuntimeError`` for the other, and this is both.
    """

    fault = Fault.USER_CODE


class IncompatibleEnvironment(SageError, RuntimeError):
    """A pipeline was made by another version of Beam or Python than the one that is to run it.

    Args:
        submission: the environment that made it, as its proto tells.
        runtime: the environment here.
    """

    fault = Fault.ENVIRONMENT

    def __init__(self, submission: str, runtime: str) -> None:
        super().__init__(
            "Pipeline construction environment and pipeline runtime environment are not compatible. Run the pipeline"
            " with the Python and the Apache Beam version it was made with. "
            f"Submission environment: {submission}. Runtime environment: {runtime}."
        )
        self.submission = submission
        self.runtime = runtime

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.submission, self.runtime))


class CheckpointError(SageError, RuntimeError):
    """A checkpoint cannot be written, read, or restored into this pipeline; the message names the file or the step.

    Attributes:
        lasting: whether another attempt would find the same, so that the job is not begun again.
    """

    fault = Fault.ENVIRONMENT
    lasting = False

    @classmethod
    def unfit(cls, message: str) -> CheckpointError:
        """The error of a pipeline that does not fit the checkpoint, or of a path where none can be."""
        error = cls.damaged(message)
        error.fault = Fault.CONFIGURATION
        return error

    @classmethod
    def damaged(cls, message: str) -> CheckpointError:
        """The error of a checkpoint that is not there as it was written."""
        error = cls(message)
        error.lasting = True
        return error


class DataLoss(SageError, RuntimeError):
    """What a checkpoint holds as prepared can be committed no more: its output is lost unless it is made again.

    The message names the sink, what was lost and how to make it again.
    """

    fault = Fault.ENVIRONMENT


class MissingExtra(SageError, ImportError):
    """A feature needs an optional dependency.

    Args:
        feature: what the user asked for, in words.
        extra: the extra that brings it, as in ``pip install 'sage-stream[extra]'``.
    """

    fault = Fault.ENVIRONMENT

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'sage-stream[{extra}]'")
        self.feature = feature
        self.extra = extra


class StepError(SageError, RuntimeError):
    """A step of the user's pipeline raised.

    The user's exception is kept as ``__cause__``. The error is also one of its type, where Python allows it: whoever
    catches ``ValueError`` around a pipeline gets those of its steps, as on Beam's own runners. Where the cause is an
    error of ours, as a missing extra, its ``fault`` and ``retryable`` are this error's too. An ``OSError`` that no line
    of the user's raised is the environment's; where it is of a connection, trying again may help.

    Args:
        step: the full name of the step, as ``Pipeline.apply`` gave it.
        cause: what the user's code raised.
        raised_at: the innermost line of user code in the cause's traceback, if any.
        applied_at: the line that applied the step, if it is known (a received proto has none).
    """

    fault = Fault.USER_CODE

    def __new__(cls, step: str, cause: BaseException, *where: Location | None) -> StepError:
        kind = _step_error_of(type(cause)) if cls is StepError else cls  # type: ignore[arg-type] # types hash
        return _blank(kind)

    def __init__(
        self,
        step: str,
        cause: BaseException,
        raised_at: Location | None = None,
        applied_at: Location | None = None,
    ) -> None:
        self.__dict__.update(vars(cause))
        self.step = step
        self.cause = cause
        self.raised_at = raised_at
        self.applied_at = applied_at
        if isinstance(cause, SageError):
            self.fault, self.retryable = cause.fault, cause.retryable
        elif isinstance(cause, OSError) and raised_at is None:
            self.fault, self.retryable = Fault.ENVIRONMENT, isinstance(cause, ConnectionError | TimeoutError)
        message, while_running = message_of(cause), f" [while running '{step}']"
        lines = [(f"{type(cause).__name__}: {message}" if message else type(cause).__name__) + while_running]
        if raised_at is not None:
            lines.append(f"  raised at  {raised_at}" + (f"    {raised_at.text}" if raised_at.text else ""))
        if applied_at is not None:
            lines.append(f"  applied at {applied_at}" + (f"    {applied_at.text}" if applied_at.text else ""))
        # The argument is what it is on Beam's runners; who prints the error reads more.
        super().__init__(message + while_running)
        self._text = "\n".join(lines)

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[object, ...]:
        return (StepError, (self.step, self.cause, self.raised_at, self.applied_at))


def message_of(cause: BaseException) -> str:
    """The message of a user's exception, whose ``str`` may raise as well."""
    try:
        return str(cause)
    except Exception as error:
        return f"(its message cannot be had: {type(error).__name__})"


@functools.lru_cache(maxsize=256)
def _step_error_of(kind: type[BaseException]) -> type[StepError]:
    """The step error that is also one of this type; the plain one where the two do not go together."""
    # Python gives meaning to an exception that ends an iteration, wherever it is raised.
    if not issubclass(kind, Exception) or issubclass(kind, (SageError, StopIteration, StopAsyncIteration)):
        return StepError
    if issubclass(StepError, kind):
        return StepError
    try:
        both = type("StepError", (StepError, kind), {"__module__": __name__, "__doc__": StepError.__doc__})
        _blank(both)
    except TypeError:
        return StepError
    return both


def _blank(kind: type[StepError]) -> StepError:
    """An instance that is not initialised; an ``OSError`` reads its arguments when it is made."""
    made: StepError = OSError.__new__(kind) if issubclass(kind, OSError) else RuntimeError.__new__(kind)
    return made


class WorkerLost(SageError, RuntimeError):
    """A worker process ended without saying why (killed, out of memory, crashed in native code)."""

    fault = Fault.ENVIRONMENT
    retryable = True


@dataclass(frozen=True)
class Refusal:
    """One thing a runner cannot do for one step, and which runners can."""

    step: str
    feature: str
    available_on: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (available on: {', '.join(self.available_on)})" if self.available_on else ""
        return f"step '{self.step}': {self.feature}{where}"


class UnsupportedFeature(SageError, NotImplementedError):
    """A runner refuses a pipeline before running any of it; all its refusals in one report."""

    fault = Fault.CONFIGURATION

    def __init__(self, runner: str, refusals: Sequence[Refusal]) -> None:
        self.runner = runner
        self.refusals = tuple(refusals)
        lines = [f"the {runner} runner cannot run this pipeline:"]
        lines += [f"  - {refusal}" for refusal in self.refusals]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.runner, self.refusals))
