"""What a driver asks of one worker, and how the worker's failure travels back."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from apache_beam.internal import pickler
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.portability.api import beam_runner_api_pb2

from sage.errors import StepError, WorkerLost, message_of
from sage.runners.deployment.recovery import AttemptCheckpoints
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.engine.serde import pickling
from sage.runners.plan import plan_pipeline

PipelineProto = beam_runner_api_pb2.Pipeline


class Cancelled(BaseException):
    """The driver asked this worker to stop.

    No error of a step: it may come up in the middle of one, where a block that leaves waits for room, and what
    handles a step's errors must let it pass.
    """


class WorkerTraceback(Exception):
    """Where at the worker an error was raised: stands behind the error, for tracebacks stay in their process."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass(frozen=True)
class WorkerSpec:
    """What the driver asks of one worker.

    ``proto`` is the pipeline; ``options`` hold this worker's share of the memory; ``path`` and ``directory`` are
    the driver's import path and working directory; ``checkpoints`` are where they go and which to begin from;
    ``classes`` are those of the driver's main script, pickled: what ``Create`` holds names them only.
    """

    proto: bytes
    worker: int
    workers: int
    options: JobOptions
    spill_dir: str | None
    path: tuple[str, ...]
    directory: str
    checkpoints: AttemptCheckpoints | None = None
    classes: tuple[bytes, ...] = ()

    def prepare(self) -> None:
        """Makes this process like the driver's: what it imports, where it is, how it pickles."""
        sys.path[:] = list(self.path)
        os.chdir(self.directory)
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        RuntimeValueProvider.set_runtime_options({})

    def plan(self) -> Plan:
        """The stages of the job."""
        plan = plan_pipeline(PipelineProto.FromString(self.proto), self.workers)
        pickling.name_classes_of_main(self.classes)
        return plan


def portable_error(error: BaseException) -> bytes:
    """A ``("failed", error, traceback text)`` report.

    An exception whose class wants other arguments than it hands on, or that holds what cannot be pickled, goes as
    its class, its arguments and what of its attributes can travel; where that is not enough, as its text.
    """
    text = _traceback_text(error)
    for carried in (error, _Carried(error)):
        try:
            data = pickling.dumps(("failed", carried, text))
            pickle.loads(data)
            return data
        except Exception:
            continue
    cause = error.cause if isinstance(error, StepError) else error
    stand_in: Exception = RuntimeError(f"{type(cause).__name__}: {message_of(cause)}")
    if isinstance(error, StepError):
        stand_in = StepError(error.step, stand_in, error.raised_at, error.applied_at)
    return pickle.dumps(("failed", stand_in, text))


def _traceback_text(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as broken:  # a user's exception may refuse to be printed
        return f"the traceback cannot be printed: {type(broken).__name__}"


class _Carried:
    """An exception on its way: it comes out as itself, or its cause does, without a call of its ``__init__``."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self._error
        if isinstance(error, StepError):
            return StepError, (error.step, _Carried(error.cause), error.raised_at, error.applied_at)
        args = tuple(arg if _travels(arg) else repr(arg) for arg in error.args)
        return _made_anew, (type(error), args, {k: v for k, v in vars(error).items() if _travels(v)})


def _travels(value: Any) -> bool:
    try:
        pickle.loads(pickling.dumps(value))
    except Exception:
        return False
    return True


def _made_anew(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def raise_reported(error: BaseException, text: str) -> NoReturn:
    """Raises what a worker reported as if it had been raised here; the worker's own traceback is the last cause."""
    error.worker_traceback = text  # type: ignore[attr-defined]
    cause = error.cause if isinstance(error, StepError) else None
    if not isinstance(error, WorkerLost):
        (cause or error).__cause__ = WorkerTraceback(text)
    raise error from (cause or error.__cause__)
