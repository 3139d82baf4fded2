"""A job that runs beside the code that submitted it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sage.errors import CheckpointError
from sage.handle import ExecutionPath, JobHandle, JobState, StepProgress, Vitals, observe_jobs

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.metrics.metric import MetricResults

__all__ = ["SubmittedJob", "submit"]

_log = logging.getLogger(__name__)


class SubmittedJob:
    """The handle of a job that runs in a thread of this process; satisfies `sage.handle.JobHandle`.

    It passes everything on to the handle or result that the runner itself gives. Some runners give theirs only when
    the job has ended (Beam's FnApiRunner does): until then such a job has no progress, and a request to cancel it
    waits.
    """

    def __init__(self, pipeline: beam.Pipeline, name: str) -> None:
        self._pipeline = pipeline
        self._name = name
        self._inner: Any = None
        self._error: BaseException | None = None
        self._cancel = False
        self._lock = threading.Lock()
        # No daemon: a script that ends after it has submitted a job does not end the job with it.
        self._thread = threading.Thread(target=self._run, name=f"sage-job-{name}", daemon=False)

    def start(self) -> None:
        """Start the job; called once."""
        self._thread.start()

    @property
    def name(self) -> str:
        """The job's name."""
        return self._name

    @property
    def state(self) -> str:
        """Where the job is: a `JobState`, or the equal ``PipelineState`` string."""
        if self._error is not None:
            return JobState.FAILED
        if self._inner is not None:
            return str(self._inner.state)
        return JobState.RUNNING if self._thread.is_alive() else JobState.STARTING

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step; empty where the runner tells nothing."""
        return self._inner.progress() if isinstance(self._inner, JobHandle) else ()

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name; empty where the runner tells nothing."""
        return self._inner.paths() if isinstance(self._inner, JobHandle) else {}

    def metrics(self) -> MetricResults:
        """The user's metrics so far.

        Raises:
            RuntimeError: the runner has given no result yet.
        """
        if self._inner is None:
            raise RuntimeError(f"job {self._name!r} has no metrics yet: its runner gives them when it has ended")
        return self._inner.metrics()

    def vitals(self) -> Vitals | None:
        """How the job is doing as a stream; None where the runner tells nothing."""
        return self._inner.vitals() if isinstance(self._inner, JobHandle) else None

    def savepoint(self, name: str = "") -> str:
        """Take a savepoint while the job goes on; gives its path.

        Raises:
            CheckpointError: the job takes no checkpoints, has ended, or could not take this one.
        """
        return self._steered().savepoint(name)

    def stop(self, name: str = "") -> str:
        """Take a savepoint and end the job with it; gives its path.

        Raises:
            CheckpointError: as for `savepoint`.
        """
        return self._steered().stop(name)

    def drain(self) -> None:
        """End the input: every window fires, and the job ends when all is written.

        Raises:
            CheckpointError: the runner cannot drain, or the job has ended.
        """
        self._steered().drain()

    def _steered(self) -> JobHandle:
        if not isinstance(self._inner, JobHandle):
            raise CheckpointError(f"job {self._name!r} cannot be steered: it does not run yet, or its runner cannot")
        return self._inner

    def cancel(self) -> None:
        """Ask the job to stop soon. Returns at once; has no effect on a job that has ended."""
        with self._lock:
            self._cancel = True
            inner = self._inner
        if inner is not None and not self.done:
            inner.cancel()

    @property
    def done(self) -> bool:
        """Whether the job has ended, in whichever way."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def wait_until_finish(self, duration: int | None = None) -> str:
        """Block until the job has ended or ``duration`` (ms) has passed; gives the job's state.

        Raises:
            StepError: a step of the user's pipeline raised (other runners than SAGE's raise what they raise).
        """
        self._thread.join(None if duration is None else duration / 1000)
        if self._error is not None:
            raise self._error
        return self.state

    def _run(self) -> None:
        me = threading.get_ident()

        def started(handle: JobHandle) -> None:
            # Every job of the process is announced, each in the thread that starts it: this thread starts one.
            if threading.get_ident() == me:
                self._adopt(handle)

        try:
            with observe_jobs(started):
                result = self._pipeline.run()
            self._adopt(result)
            result.wait_until_finish()
        except BaseException as error:
            self._error = error
            # Nobody may ever wait for the job; its failure must not pass in silence.
            _log.error("job %r failed: %s", self._name, error)

    def _adopt(self, inner: Any) -> None:
        with self._lock:
            self._inner = inner
            cancel = self._cancel
        if cancel:
            inner.cancel()


def submit(pipeline: beam.Pipeline, name: str) -> SubmittedJob:
    """Start a pipeline in a thread and return its handle at once."""
    job = SubmittedJob(pipeline, name)
    job.start()
    return job
