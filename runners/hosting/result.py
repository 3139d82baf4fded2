"""The result of a job: Beam's, and the handle by which it is watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from apache_beam.metrics.cells import DistributionData, DistributionResult, GaugeData, GaugeResult
from apache_beam.metrics.execution import MetricResult
from apache_beam.metrics.metric import MetricResults
from apache_beam.runners.runner import PipelineResult, PipelineState

from sage.handle import ExecutionPath, StepProgress


def _result_of(value: Any) -> Any:
    """What a user reads of a metric's cumulative data; Beam 2.61 has no common method for it."""
    if hasattr(value, "get_result"):
        return value.get_result()
    if isinstance(value, DistributionData):
        return DistributionResult(value)
    if isinstance(value, GaugeData):
        return GaugeResult(value)
    return getattr(value, "string_set", value)


class JobMetrics(MetricResults):
    """The user metrics of a job; attempted and committed values are one, for nothing is run twice."""

    def __init__(self, cumulative: dict[str, dict[Any, Any]]) -> None:
        self._cumulative = cumulative

    def query(self, filter: Any = None) -> dict[str, list[MetricResult]]:
        return {
            kind: [
                MetricResult(key, result, result)
                for key, value in cells.items()
                if self.matches(filter, key)
                for result in (_result_of(value),)
            ]
            for kind, cells in self._cumulative.items()
        }


class Running(Protocol):
    """What runs a job: in this process, or in workers."""

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""

    def metrics(self) -> dict[str, Any]:
        """The cumulative data of every metric cell, by kind and then by key."""

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name."""

    def cancel(self) -> None:
        """Asks the job to stop."""

    def run(self) -> None:
        """Runs the job to its end, in the calling thread."""


class JobResult(PipelineResult):
    """A job of a host: Beam's result, and SAGE's job handle."""

    def __init__(self, name: str, running: Running) -> None:
        super().__init__(PipelineState.STARTING)
        self.name = name
        self._running = running
        self._cancelled = False

    def run(self) -> None:
        """Runs the job to its end.

        Raises:
            StepError: a step of the user's pipeline raised.
            WorkerLost: a worker process died.
        """
        self._state = PipelineState.RUNNING
        try:
            self._running.run()
        except KeyboardInterrupt:
            self._state = PipelineState.CANCELLED
            raise
        except BaseException:
            self._state = PipelineState.FAILED
            raise
        self._state = PipelineState.CANCELLED if self._cancelled else PipelineState.DONE

    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(self._state)

    def cancel(self) -> str:
        if not PipelineState.is_terminal(self._state):
            self._cancelled = True
            self._running.cancel()
        return str(self._state)

    def metrics(self) -> JobMetrics:
        return JobMetrics(self._running.metrics())

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""
        return self._running.progress()

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name."""
        return self._running.paths()
