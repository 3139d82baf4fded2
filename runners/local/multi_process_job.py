"""A job in N worker processes: an attempt is a crew of them, and a job is as many attempts as it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sage.handle import ExecutionPath, StepProgress
from sage.runners.deployment.recovery import Checkpoints, Durability
from sage.runners.deployment.worker_spec import Order
from sage.runners.driver.checkpoint_driver import Conductor
from sage.runners.driver.job_supervisor import Steered
from sage.runners.engine.core.spec import Plan
from sage.runners.local.worker_processes import Crew
from sage.runners.worker.clock import WallClock
from sage.runners.worker.progress import Pulse


class Cluster(Steered):
    """Runs a job in worker processes.

    Args:
        plan: makes what to run; the driver needs it to tell checkpoints' states apart.
        orders: one order for each worker, given the checkpoint to begin from.
        durability: what is for the case that the job fails.
    """

    def __init__(
        self,
        plan: Plan,
        orders: Callable[[Checkpoints], Sequence[Order]],
        durability: Durability,
    ) -> None:
        super().__init__(durability)
        self._plan = plan
        self._orders = orders
        self._crew: Crew | None = None

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, all workers together."""
        return [] if self._crew is None else self._crew.progress()

    def metrics(self) -> dict[str, Any]:
        """User metrics, all workers together: as each last told them."""
        return {} if self._crew is None else self._crew.metrics()

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step ran, known when the workers have ended."""
        return {} if self._crew is None else self._crew.paths()

    def reasons(self) -> Mapping[str, str]:
        """Why steps ran the general way, known when the workers have ended."""
        return {} if self._crew is None else self._crew.reasons()

    def pulse(self) -> Pulse:
        """How far the job has come."""
        return Pulse() if self._crew is None else self._crew.pulse()

    def cancel(self) -> None:
        """Asks all workers to stop."""
        super().cancel()
        if self._crew is not None:
            self._crew.cancel()

    def run(self) -> None:
        """Runs the job to its end.

        Raises:
            StepError: a step failed at some worker; the others are stopped.
            WorkerLost: a worker ended without a report.
        """
        self._attempts.run(self._attempt)

    def _attempt(self, kept: Checkpoints) -> None:
        kept.check(self._plan)
        orders = self._orders(kept)
        crew = self._crew = Crew(orders)
        now = WallClock().now_micros
        conductor = self._conductor = Conductor.of(
            kept, self._attempts.store, self._plan, len(orders), crew.command, now, crew.wake
        )
        if self._cancelled:
            crew.cancel()
        failed = "the job failed"
        try:
            crew.run(conductor)
            failed = ""
        finally:
            self._close(conductor, failed)
