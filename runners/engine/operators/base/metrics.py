"""User metrics: which step a counter belongs to, found when it is touched and not before."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import Any

from apache_beam.metrics.execution import MetricsContainer
from apache_beam.runners.worker import statesampler


class StepMetrics(MetricsContainer):
    """The metric cells of one step."""


class Tracker:
    """Stands where Beam looks for the current step when user code touches a metric.

    General steps set ``container`` around their calls. Compiled code sets it to None: it registers its code object
    with a map from line to step, and the step is found from the running frame when a metric is touched.
    """

    name_context = None
    """No name for Beam's log handlers to add, which ask for one wherever a tracker is in place."""

    def __init__(self) -> None:
        self.container: MetricsContainer | None = None
        self._lines: dict[CodeType, Mapping[int, MetricsContainer]] = {}

    def register(self, code: CodeType, lines: Mapping[int, MetricsContainer]) -> None:
        """Says which step each line of a compiled function runs."""
        self._lines[code] = lines

    def current_state(self) -> Tracker:
        return self

    @property
    def metrics_container(self) -> MetricsContainer | None:
        """The container of the step whose user code is running."""
        if self.container is None and self._lines:
            found = self._running(sys._getframe(1))
            # A step that has another thread do its work waits for it in the thread that runs the job.
            others = iter(sys._current_frames().values())
            while found is None and (frame := next(others, None)) is not None:
                found = self._running(frame)
            return found
        return self.container

    def _running(self, frame: FrameType | None) -> MetricsContainer | None:
        while frame is not None:
            lines = self._lines.get(frame.f_code)
            if lines is not None:
                return lines.get(frame.f_lineno)
            frame = frame.f_back
        return None

    def within(self, container: MetricsContainer) -> _Within:
        """What runs inside ``with tracker.within(cells)`` counts in these cells."""
        return _Within(self, container)

    # What Beam's own state sampler offers and user code may reach for.
    def update_metric(self, typed_metric_name: Any, value: Any) -> None:
        container = self.metrics_container
        if container is not None:
            container.get_metric_cell(typed_metric_name).update(value)

    def install(self) -> Any:
        """Makes this the tracker of the running thread; returns the one that was there."""
        previous = statesampler.get_current_tracker()
        statesampler.set_current_tracker(self)
        return previous

    @staticmethod
    def restore(previous: Any) -> None:
        statesampler.set_current_tracker(previous)


class _Within:
    """Sets the tracker's container, and puts back what was there."""

    __slots__ = ("_container", "_tracker")

    def __init__(self, tracker: Tracker, container: MetricsContainer) -> None:
        self._tracker = tracker
        self._container: MetricsContainer | None = container

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *raised: object) -> None:
        self._swap()

    def _swap(self) -> None:
        self._tracker.container, self._container = self._container, self._tracker.container
