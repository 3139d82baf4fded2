"""A job in N worker processes: an attempt is a crew of them, and a job is as many attempts as it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sage.handle import ExecutionPath, StepProgress
from sage.runners.deployment.recovery import AttemptCheckpoints, RecoveryOptions
from sage.runners.deployment.worker_spec import WorkerSpec
from sage.runners.driver.checkpoint_driver import CheckpointDriver
from sage.runners.driver.job_supervisor import JobSupervisor
from sage.runners.engine.core.spec import Plan
from sage.runners.local.worker_processes import WorkerProcesses
from sage.runners.worker.clock import WallClock
from sage.runners.worker.progress import Pulse


class MultiProcessJob(JobSupervisor):
    """Runs a job in worker processes.

    Args:
        plan: makes what to run; the driver needs it to tell checkpoints' states apart.
        orders: one order for each worker, given the checkpoint to begin from.
        durability: what is for the case that the job fails.
    """

    def __init__(
        self,
        plan: Plan,
        orders: Callable[[AttemptCheckpoints], Sequence[WorkerSpec]],
        durability: RecoveryOptions,
    ) -> None:
        super().__init__(durability)
        self._plan = plan
        self._orders = orders
        self._processes: WorkerProcesses | None = None

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, all workers together."""
        return [] if self._processes is None else self._processes.progress()

    def metrics(self) -> dict[str, Any]:
        """User metrics, all workers together: as each last told them."""
        return {} if self._processes is None else self._processes.metrics()

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step ran, known when the workers have ended."""
        return {} if self._processes is None else self._processes.paths()

    def reasons(self) -> Mapping[str, str]:
        """Why steps ran the general way, known when the workers have ended."""
        return {} if self._processes is None else self._processes.reasons()

    def pulse(self) -> Pulse:
        """How far the job has come."""
        return Pulse() if self._processes is None else self._processes.pulse()

    def cancel(self) -> None:
        """Asks all workers to stop."""
        super().cancel()
        if self._processes is not None:
            self._processes.cancel()

    def run(self) -> None:
        """Runs the job to its end.

        Raises:
            StepError: a step failed at some worker; the others are stopped.
            WorkerLost: a worker ended without a report.
        """
        self._attempts.run(self._attempt)

    def _attempt(self, kept: AttemptCheckpoints) -> None:
        kept.check(self._plan)
        orders = self._orders(kept)
        processes = self._processes = WorkerProcesses(orders)
        now = WallClock().now_micros
        checkpoint_driver = self._checkpoint_driver = CheckpointDriver.of(
            kept, self._attempts.store, self._plan, len(orders), processes.command, now, processes.wake
        )
        if self._cancelled:
            processes.cancel()
        failed = "the job failed"
        try:
            processes.run(checkpoint_driver)
            failed = ""
        finally:
            self._close(checkpoint_driver, failed)
