"""A job in the calling process and thread."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sage.handle import ExecutionPath, StepProgress
from sage.runners.deployment.recovery import AttemptCheckpoints, RecoveryOptions
from sage.runners.driver.checkpoint_driver import CheckpointDriver
from sage.runners.driver.job_supervisor import JobSupervisor
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.worker.assembly import Checkpointing, WorkerRuntime, WorkerSetup
from sage.runners.worker.clock import WallClock, beam_time
from sage.runners.worker.loop import Idle, Over, turn
from sage.runners.worker.metrics import cumulative, merge_metrics
from sage.runners.worker.process import patient_collector, quick_switches
from sage.runners.worker.progress import Pulse, progress_of, pulse_of
from sage.runtime import set_clock

MOST_SLEPT = 0.1  # s; a job that is cancelled is to notice


class InProcessJob(JobSupervisor):
    """Runs a job on one worker, which is this process.

    Args:
        plan: makes what to run; each attempt needs functions that were never used.
        clock: processing time.
        options: how the job is to run.
        durability: what is for the case that it fails.
        spill_dir: the folder for what spills; None for the system's temporary folder.
    """

    def __init__(
        self,
        plan: Callable[[], Plan],
        clock: WallClock | VirtualClock,
        options: JobOptions,
        durability: RecoveryOptions,
        spill_dir: str | None,
    ) -> None:
        super().__init__(durability)
        self._plan = plan
        self._clock = clock
        self._options = options
        self._job: JobContext | None = None
        self._spill_dir = spill_dir
        self._flow: Dataflow | None = None
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

    def reasons(self) -> Mapping[str, str]:
        """Why steps run the general way."""
        return {} if self._job is None else dict(self._job.reasons)

    def pulse(self) -> Pulse:
        """How far the job has come."""
        return Pulse() if self._flow is None else pulse_of(self._flow)

    def run(self) -> None:
        """Runs the job to its end, or until it is cancelled."""
        # In a context of its own: the clock that user code sees is this job's, and no longer than the job runs.
        contextvars.copy_context().run(self._attempts.run, self._attempt)

    def _attempt(self, kept: AttemptCheckpoints) -> None:
        plan = self._plan()
        kept.check(plan)
        with patient_collector(), quick_switches(), self._time():
            self._run(plan, kept)

    def _time(self) -> AbstractContextManager[None]:
        """Gives user code the time of a virtual clock."""
        if not isinstance(self._clock, VirtualClock):
            return nullcontext()
        set_clock(self._clock.now_seconds)
        return beam_time(self._clock)

    def _run(self, plan: Plan, kept: AttemptCheckpoints) -> None:
        checkpointing = Checkpointing(lambda fact: driver.post(fact), kept.writer(plan, 0, 1))
        setup = WorkerSetup(plan, self._options, self._clock, spill_dir=self._spill_dir)
        runtime = WorkerRuntime(setup, checkpointing=checkpointing)
        driver = self._checkpoint_driver = CheckpointDriver.of(
            kept,
            self._attempts.store,
            plan,
            1,
            lambda command: runtime.checkpointer.enqueue(command),  # type: ignore[union-attr]
            self._clock.now_micros,
            prompt=True,
        )
        failed = "the job failed"
        try:
            with runtime:
                self._job, self._flow = runtime.job, runtime.flow
                with runtime.entered():
                    with kept.loaded(plan, 0, 1) as states:
                        runtime.restore(states)
                    over = self._loop(runtime, driver)
                    failed = ""
            self._ended = over
        finally:
            self._close(driver, failed)

    def _loop(self, runtime: WorkerRuntime, driver: CheckpointDriver) -> bool:
        """Runs turns until the worker is over, or the job is cancelled; whether it is over."""
        while not self._cancelled:
            driver.run_pending()
            now = turn(runtime)
            if isinstance(now, Over):
                return True
            if isinstance(now, Idle):
                self._wait(now.wakeup, driver)
        return False

    def _wait(self, wakeup: int | None, driver: CheckpointDriver) -> None:
        clock = self._clock
        if isinstance(clock, VirtualClock):
            if wakeup is not None:
                clock.micros = max(clock.micros, wakeup)
            return
        times = [at for at in (wakeup, driver.next_due()) if at is not None]
        wait = (min(times) - clock.now_micros()) / 1e6 if times else MOST_SLEPT
        driver.run_pending(min(max(wait, 0.0), MOST_SLEPT))
