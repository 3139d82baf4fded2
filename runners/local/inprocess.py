"""A job in the calling process and thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sage.handle import ExecutionPath, StepProgress
from sage.runners.engine.context import JobContext, VirtualClock
from sage.runners.engine.dataflow import Dataflow
from sage.runners.engine.spec import Plan
from sage.runners.hosting.metrics import cumulative
from sage.runners.hosting.progress import progress_of
from sage.runners.hosting.spilling import spill_store
from sage.runners.hosting.worker import close_quietly


class InProcess:
    """Runs a plan on one worker, which is this process.

    Args:
        plan: what to run.
        job: time, limits and identity.
        spill_dir: the folder for what spills; None for the system's temporary folder.
    """

    def __init__(self, plan: Plan, job: JobContext, spill_dir: str | None) -> None:
        self._plan = plan
        self._job = job
        self._spill_dir = spill_dir
        self._flow: Dataflow | None = None
        self._cancelled = False
        self._ended = False

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""
        return [] if self._flow is None else progress_of(self._flow, "DONE" if self._ended else "RUNNING")

    def metrics(self) -> dict[str, Any]:
        """The cumulative data of every metric cell."""
        return cumulative(self._job)

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs."""
        return dict(self._job.paths)  # type: ignore[arg-type]

    def cancel(self) -> None:
        """Asks the job to stop; it does between two pieces of work."""
        self._cancelled = True

    def run(self) -> None:
        """Runs the job to its end, or until it is cancelled."""
        previous = self._job.tracker.install()
        try:
            with spill_store(self._job.memory_bytes, self._spill_dir) as store:
                self._job = replace(self._job, spill=store)
                self._run()
        finally:
            self._job.tracker.restore(previous)

    def _run(self) -> None:
        flow = self._flow = Dataflow(self._plan, self._job)
        try:
            flow.open()
            self._loop(flow)
        except BaseException:
            close_quietly(flow)
            raise
        flow.close()
        self._ended = True

    def _loop(self, flow: Dataflow) -> None:
        clock: Any = self._job.clock
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
