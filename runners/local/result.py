"""The handle of a local job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apache_beam.metrics.cells import DistributionData, DistributionResult, GaugeData, GaugeResult
from apache_beam.metrics.execution import MetricResult
from apache_beam.metrics.metric import MetricResults
from apache_beam.runners.runner import PipelineResult, PipelineState

from sage.handle import ExecutionPath, StepProgress
from sage.runners.engine.context import JobContext


def _result_of(value: Any) -> Any:
    """What a user reads of a metric's cumulative data; Beam 2.61 has no common method for it."""
    if hasattr(value, "get_result"):
        return value.get_result()
    if isinstance(value, DistributionData):
        return DistributionResult(value)
    if isinstance(value, GaugeData):
        return GaugeResult(value)
    return getattr(value, "string_set", value)


class LocalMetrics(MetricResults):
    """The user metrics of a job; attempted and committed values are one, for nothing is run twice."""

    def __init__(self, job: JobContext) -> None:
        self._job = job

    def query(self, filter: Any = None) -> dict[str, list[MetricResult]]:
        found: dict[str, dict[Any, Any]] = {}
        for container in list(self._job.containers.values()):
            cumulative = container.get_cumulative()
            for kind in (
                "counters", "distributions", "gauges", "string_sets", "bounded_tries", "histograms",
            ):  # fmt: skip
                found.setdefault(kind, {}).update(getattr(cumulative, kind, {}))
        return {
            kind: [
                MetricResult(key, result, result)
                for key, value in cells.items()
                if self.matches(filter, key)
                for result in (_result_of(value),)
            ]
            for kind, cells in found.items()
        }


class LocalResult(PipelineResult):
    """A job on the local runner: Beam's result, and SAGE's job handle."""

    def __init__(self, name: str, job: JobContext, progress: Callable[[], Sequence[StepProgress]]) -> None:
        super().__init__(PipelineState.STARTING)
        self.name = name
        self._job = job
        self._progress = progress
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked the job to stop."""
        return self._cancelled

    def become(self, state: str) -> None:
        """Moves the job on to a state."""
        self._state = state

    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(self._state)

    def cancel(self) -> str:
        if not PipelineState.is_terminal(self._state):
            self._cancelled = True
        return str(self._state)

    def metrics(self) -> LocalMetrics:
        return LocalMetrics(self._job)

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""
        return self._progress()

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name."""
        return dict(self._job.paths)  # type: ignore[arg-type]
