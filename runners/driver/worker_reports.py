"""What the workers of a job report to its driver, taken together."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from sage.handle import ExecutionPath, StepProgress
from sage.runners.deployment.worker_spec import raise_reported
from sage.runners.engine.checkpoint.protocol import Fact
from sage.runners.worker.metrics import merge_metrics
from sage.runners.worker.progress import Pulse, merge_progress, merge_pulses


class WorkerReports:
    """What each worker last said; answers what a `RunningJob` job is asked.

    Args:
        workers: how many report (count).
    """

    def __init__(self, workers: int) -> None:
        self._progress: list[Sequence[StepProgress]] = [[] for _ in range(workers)]
        self._pulses = [Pulse() for _ in range(workers)]
        self._metrics: dict[int, dict[str, Any]] = {}
        self._paths: dict[str, ExecutionPath] = {}
        self._reasons: dict[str, str] = {}

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, all workers together."""
        return merge_progress(self._progress)

    def pulse(self) -> Pulse:
        """How far the job has come, all workers together."""
        return merge_pulses(self._pulses)

    def metrics(self) -> dict[str, Any]:
        """User metrics, all workers together: as each last told them."""
        return merge_metrics(self._metrics.values())

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step ran, known when the workers have ended."""
        return dict(self._paths)

    def reasons(self) -> Mapping[str, str]:
        """Why steps ran the general way, known when the workers have ended."""
        return dict(self._reasons)

    def on_fact(self, fact: Fact) -> None:
        """A worker tells the coordinator of checkpoints something; a host that has one overrides this."""

    def on_output(self, kind: str, content: Any) -> None:
        """User code at a worker printed, logged or warned; a host that does not let it do so there overrides this."""

    def receive(self, worker: int, data: bytes) -> bool:
        """Takes a worker's report, the same one twice too; whether it says that the worker has done its part.

        Raises:
            StepError: a step failed there.
            Exception: what else ended the worker.
        """
        kind, *content = pickle.loads(data)
        if kind == "failed":
            raise_reported(*content)
        if kind == "fact":
            self.on_fact(*content)
            return False
        if kind == "output":
            self.on_output(*content)
            return False
        self._progress[worker] = content[0]
        if kind == "progress":
            if len(content) > 1:
                self._pulses[worker], self._metrics[worker] = content[1:]
            return False
        _, metrics, paths, reasons = content
        self._metrics[worker] = metrics
        self._paths.update(paths)
        self._reasons.update(reasons)
        return True
