"""The handle of a job: the one small interface through which a job is observed and steered.

Every host implements it once, and the command line, a notebook or a service can then watch any job without
knowing the host. A Beam ``PipelineResult`` that adds `name`, `progress` and `paths` satisfies it; nothing
here imports Beam.

A job that a user's script starts inside ``with beam.Pipeline() as p:`` gives its handle to nobody, since the
block returns only when the job has ended. So a runner announces each job when it starts, and whoever wants to
watch registers first::

    with observe_jobs(handles.append):
        runpy.run_path("job.py", run_name="__main__")
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from apache_beam.metrics.metric import MetricResults

__all__ = [
    "Checkpointed",
    "ExecutionPath",
    "JobHandle",
    "JobState",
    "StepProgress",
    "StepState",
    "Vitals",
    "announce",
    "observe_jobs",
]

_log = logging.getLogger(__name__)

StepState = Literal["waiting", "running", "done"]
"""Where a step is: it has seen nothing yet, it is at work, it will see nothing more."""

ExecutionPath = Literal["compiled", "bound", "general"]
"""How a step runs: inside a compiled block function, called by our binder, or by Beam's own DoFn runner."""


class JobState(str, enum.Enum):
    """Where a job is. The values are Beam's ``PipelineState`` names, and compare equal to them."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended and this state will not change again."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class StepProgress:
    """How far one step of the user's pipeline has come, at one instant.

    Attributes:
        name: the full name of the step, as ``Pipeline.apply`` gave it.
        elements_in: how many elements the step has taken in (count).
        elements_out: how many elements it has put out, all its outputs together (count).
        busy_ms: time spent in the step, all workers together (ms). Steps fused into one stage share the time
            of the stage, so the sum over steps may exceed the wall clock.
        state: ``waiting``, ``running`` or ``done``.
        late_dropped: how many elements the step has dropped as late (count); its counter ``numLateRecordsDropped``.
    """

    name: str
    elements_in: int = 0
    elements_out: int = 0
    busy_ms: float = 0.0
    state: StepState = "waiting"
    late_dropped: int = 0


@dataclass(frozen=True)
class Checkpointed:
    """A checkpoint that is durable.

    Attributes:
        number: its number; it goes up.
        path: where it is; empty for the last one of a job that keeps none.
        size_bytes: how much was written for it (bytes).
        state_bytes: how much a restore reads, all that the job holds (bytes).
        began_ms: when its barrier left the sources (ms since the epoch).
        ended_ms: when it was durable (ms since the epoch).
    """

    number: int
    path: str
    size_bytes: int
    state_bytes: int
    began_ms: float
    ended_ms: float


@dataclass(frozen=True)
class Vitals:
    """How a streaming job is doing, at one instant.

    Attributes:
        watermark_ms: all events before this event time have gone through every step (ms since the epoch); None
            before the first.
        lag: how many events wait at the sources (count); None if no source knows.
        read: how many events this run has read from sources with positions (count).
        checkpoint: the last durable checkpoint; None before the first.
        restarts: how often the job began again after a failure (count).
        late_dropped: how many elements all steps have dropped as late since it last began (count).
    """

    watermark_ms: float | None = None
    lag: int | None = None
    read: int = 0
    checkpoint: Checkpointed | None = None
    restarts: int = 0
    late_dropped: int = 0


@runtime_checkable
class JobHandle(Protocol):
    """A job that runs or has run.

    All members may be called from any thread at any time, before, while and after the job runs; only
    `wait_until_finish` blocks. Observers poll `progress` several times a second, so an implementation answers
    it from counters it keeps anyway and takes no lock that the job's own loop waits for.
    """

    @property
    def name(self) -> str:
        """The job's name: the ``--job_name`` option, else one that the runner made."""

    @property
    def state(self) -> str:
        """Where the job is: a `JobState`, or the equal ``PipelineState`` string."""

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step of the user's pipeline, in the order of application. Cheap."""

    def metrics(self) -> MetricResults:
        """The user's metrics so far, as Beam's ``MetricResults``. Final once `state` is terminal."""

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name. Empty until the job is planned."""

    def vitals(self) -> Vitals | None:
        """How the job is doing as a stream: watermark, lag, last checkpoint; None if nobody tells. Cheap."""

    def cancel(self) -> object:
        """Ask the job to stop soon. Returns at once; has no effect on a job that has ended."""

    def savepoint(self, name: str = "") -> str:
        """Take a savepoint while the job goes on; gives its path. Waits until it is durable.

        Raises:
            CheckpointError: the job takes no checkpoints, has ended, or could not take this one.
        """

    def stop(self, name: str = "") -> str:
        """Take a savepoint and end the job with it; gives its path. A job that begins from it goes on from there.

        Raises:
            CheckpointError: as for `savepoint`.
        """

    def drain(self) -> None:
        """End the input: every window fires, and the job ends when all is written.

        Raises:
            CheckpointError: the host cannot drain, or the job has ended.
        """

    def wait_until_finish(self, duration: int | None = None) -> object:
        """Block until the job has ended or ``duration`` (ms) has passed.

        Raises:
            StepError: a step of the user's pipeline raised.
        """


_lock = threading.Lock()
_observers: list[Callable[[JobHandle], object]] = []


@contextlib.contextmanager
def observe_jobs(callback: Callable[[JobHandle], object]) -> Iterator[None]:
    """Call ``callback`` with the handle of every job that starts in this process while the block is open.

    The callback runs in the thread that starts the job, before its first element: it must return quickly.
    What it raises is logged and does not reach the job. Several observers may be registered at once.
    """
    with _lock:
        _observers.append(callback)
    try:
        yield
    finally:
        with _lock:
            # By identity: two equal callbacks are two registrations, and the one that leaves is this one.
            for index, registered in enumerate(_observers):
                if registered is callback:
                    del _observers[index]
                    break


def announce(handle: JobHandle) -> None:
    """Tell all observers that a job starts; a runner calls this once for each job, before any work is done.

    Never raises.
    """
    with _lock:
        observers = tuple(_observers)
    for observer in observers:
        try:
            observer(handle)
        except Exception:
            _log.exception("an observer of job %r failed; the job is not affected", handle.name)
