"""A job in the calling process and thread."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sage.handle import ExecutionPath, StepProgress
from sage.runners.engine.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.dataflow import Dataflow
from sage.runners.engine.spec import Plan
from sage.runners.hosting.clock import WallClock, beam_time
from sage.runners.hosting.metrics import cumulative, merge_metrics
from sage.runners.hosting.progress import progress_of
from sage.runners.hosting.spilling import spill_store
from sage.runners.hosting.textlines import fast_read
from sage.runners.hosting.worker import close_quietly, patient_collector
from sage.runtime import set_clock


class InProcess:
    """Runs a plan on one worker, which is this process.

    Args:
        plan: what to run.
        clock: processing time.
        options: how the job is to run.
        spill_dir: the folder for what spills; None for the system's temporary folder.
    """

    def __init__(
        self, plan: Plan, clock: WallClock | VirtualClock, options: JobOptions, spill_dir: str | None
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._options = options
        self._job: JobContext | None = None
        self._spill_dir = spill_dir
        self._flow: Dataflow | None = None
        self._cancelled = False
        self._ended = False

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""
        return [] if self._flow is None else progress_of(self._flow, "DONE" if self._ended else "RUNNING")

    def metrics(self) -> dict[str, Any]:
        """The cumulative data of every metric cell."""
        return merge_metrics([] if self._job is None else [cumulative(self._job)])

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs."""
        return {} if self._job is None else dict(self._job.paths)  # type: ignore[arg-type]

    def cancel(self) -> None:
        """Asks the job to stop; it does between two pieces of work."""
        self._cancelled = True

    def run(self) -> None:
        """Runs the job to its end, or until it is cancelled."""
        # In a context of its own: the clock that user code sees is this job's, and no longer than the job runs.
        contextvars.copy_context().run(self._run_job)

    def _run_job(self) -> None:
        with spill_store(self._options.memory_bytes, self._spill_dir) as store:
            job = self._job = JobContext(self._clock, self._options, store, fast_read)
            previous = job.tracker.install()
            try:
                with patient_collector(), self._time():
                    self._run(job)
            finally:
                job.tracker.restore(previous)

    def _time(self) -> AbstractContextManager[None]:
        """Gives user code the time of a virtual clock."""
        if not isinstance(self._clock, VirtualClock):
            return nullcontext()
        set_clock(self._clock.now_seconds)
        return beam_time(self._clock)

    def _run(self, job: JobContext) -> None:
        flow = self._flow = Dataflow(self._plan, job)
        try:
            flow.open()
            self._loop(flow)
        except BaseException:
            close_quietly(flow)
            raise
        flow.close()
        self._ended = True

    def _loop(self, flow: Dataflow) -> None:
        clock = self._clock
        while not self._cancelled:
            if flow.step():
                continue
            wakeup = flow.next_wakeup()
            if wakeup is None:
                return
            if isinstance(clock, VirtualClock):
                clock.micros = max(clock.micros, wakeup)
            else:
                clock.sleep_until(wakeup)
