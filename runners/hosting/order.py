"""What a driver asks of one worker, and how the worker's failure travels back."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

import cloudpickle
from apache_beam.internal import pickler
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.portability.api import beam_runner_api_pb2

from sage.errors import StepError, WorkerLost
from sage.runners.engine.context import JobContext, JobOptions
from sage.runners.engine.spec import Plan
from sage.runners.engine.spill import SpillStore
from sage.runners.hosting.clock import WallClock
from sage.runners.hosting.textlines import fast_read
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
class Order:
    """What the driver asks of one worker.

    ``proto`` is the pipeline; ``options`` hold this worker's share of the memory; ``path`` and ``directory`` are
    the driver's import path and working directory.
    """

    proto: bytes
    worker: int
    workers: int
    options: JobOptions
    spill_dir: str | None
    path: tuple[str, ...]
    directory: str

    def prepare(self) -> None:
        """Makes this process like the driver's: what it imports, where it is, how it pickles."""
        sys.path[:] = list(self.path)
        os.chdir(self.directory)
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        RuntimeValueProvider.set_runtime_options({})

    def plan(self) -> Plan:
        """The stages of the job."""
        return plan_pipeline(PipelineProto.FromString(self.proto), self.workers)

    def context(self, spill: SpillStore | None) -> JobContext:
        """What the engine is handed at this worker; ``spill`` is where groupings go that do not fit in memory."""
        return JobContext(WallClock(), self.options, spill, fast_read, self.worker, self.workers)


def portable_error(error: Exception) -> bytes:
    """A ``("failed", error, traceback text)`` report; a cause that cannot travel is replaced by its text."""
    text = "".join(traceback.format_exception(error))
    try:
        data = cloudpickle.dumps(("failed", error, text))
        pickle.loads(data)
        return bytes(data)
    except Exception:
        pass  # replaced below
    cause: Any = error.cause if isinstance(error, StepError) else error
    stand_in: Exception = RuntimeError(f"{type(cause).__name__}: {cause}")
    if isinstance(error, StepError):
        stand_in = StepError(error.step, stand_in, error.raised_at, error.applied_at)
    return pickle.dumps(("failed", stand_in, text))


def raise_reported(error: Exception, text: str) -> NoReturn:
    """Raises what a worker reported as if it had been raised here; the worker's own traceback is the last cause."""
    error.worker_traceback = text  # type: ignore[attr-defined]
    cause = error.cause if isinstance(error, StepError) else None
    if not isinstance(error, WorkerLost):
        (cause or error).__cause__ = WorkerTraceback(text)
    raise error from (cause or error.__cause__)
