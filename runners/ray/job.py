"""The driver of a job in Ray actors: starts them, watches them, and gathers what they report."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Sequence
from typing import Any

import ray

from sage.errors import WorkerLost
from sage.runners.deployment.worker_spec import WorkerSpec
from sage.runners.driver.worker_reports import WorkerReports
from sage.runners.ray.actor import Worker
from sage.runners.worker.process import PROGRESS_SECONDS

# One call runs the job; peers, progress and cancellation are heard beside it.
_THREADS = 4
_GRACE_SECONDS = 1.0


class RayJob(WorkerReports):
    """The actors of one job.

    State: one actor for each worker while the job runs, and what each last reported.
    """

    def __init__(self, orders: Sequence[WorkerSpec]) -> None:
        super().__init__(len(orders))
        self._orders = orders
        self._workers: list[Any] = []
        self._cancelled_at: float | None = None

    def cancel(self) -> None:
        """Asks all workers to stop."""
        self._cancelled_at = time.monotonic()
        for worker in list(self._workers):
            worker.cancel.remote()

    def run(self) -> None:
        """Starts the actors and waits for all of them.

        Raises:
            StepError: a step failed at some worker; the others are stopped.
            WorkerLost: an actor died.
        """
        if not ray.is_initialized():
            ray.init(include_dashboard=False, logging_level="WARNING")
        try:
            self._workers = [self._actor(order) for order in self._orders]
            if self._cancelled_at is not None:
                return
            self._watch({worker.run.remote(self._workers): i for i, worker in enumerate(self._workers)})
        finally:
            for worker in self._workers:
                ray.kill(worker)

    def _actor(self, order: WorkerSpec) -> Any:
        # More workers than processors share them, as processes of one machine do; they never wait for each other's.
        share = min(1.0, ray.cluster_resources().get("CPU", 0.0) / order.workers)
        actor = ray.remote(Worker).options(num_cpus=int(share * 100) / 100, max_concurrency=_THREADS)
        return actor.remote(pickle.dumps(order))

    def _watch(self, running: dict[Any, int]) -> None:
        while running and not self._overdue():
            ended, _ = ray.wait(list(running), timeout=PROGRESS_SECONDS)
            for call in ended:
                self._hear(running.pop(call), call)
            if running and not ended:
                self._ask(running)

    def _overdue(self) -> bool:
        """Whether a cancelled job has had its time to stop by itself; its actors are killed then."""
        return self._cancelled_at is not None and time.monotonic() > self._cancelled_at + _GRACE_SECONDS

    def _hear(self, index: int, call: Any) -> None:
        try:
            report = ray.get(call)
        except ray.exceptions.RayActorError as error:
            raise WorkerLost(
                f"the actor of worker {index} died: it was killed, ran out of memory, or its node is gone."
                " The job's output is incomplete; run it again."
            ) from error
        if report is not None:
            self.receive(index, report)

    def _ask(self, running: dict[Any, int]) -> None:
        """Progress, if the actors tell it soon; a dead one is found by its call that ends."""
        asked = {self._workers[index].progress.remote(): index for index in running.values()}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROGRESS_SECONDS)
        for call in answered:
            with contextlib.suppress(ray.exceptions.RayActorError):
                report = ray.get(call)
                if report is not None:
                    self.receive(asked[call], report)
