"""What is dropped as late: one way to count it and to warn of it, for every step that drops."""

from __future__ import annotations

import logging

from apache_beam.metrics.metricbase import MetricName

from sage.runners.engine.core.blocks import MIN_MICROS
from sage.runners.engine.operators.base.context import TaskContext
from sage.runtime import watermark

COUNTER = MetricName("sage", "numLateRecordsDropped")
"""Flink's name of it."""

WINDOW_CLOSED = "the watermark had passed the end of their windows and the allowed lateness"
SIDE_INPUT_GONE = "the watermark had passed the end of their windows, and the side input of these windows is gone"

_log = logging.getLogger(__name__)


class LateRecords:
    """Counts the elements that one step drops as late, and warns once, when the first ones are.

    The count is a counter of the step, `COUNTER` among its metrics, which is there once something was dropped. An
    element counts once for each of its windows that dropped it. It counts where it is dropped, so the sum over the
    workers does not depend on their number, as far as the watermarks do not. Like all metrics of a job it begins at 0
    with each attempt: what is read again after a failure, and is late again, counts in the attempt that goes on.

    State: the count.

    Args:
        step: the full name of the step.
        context: of the task that runs it.
        reason: why elements are dropped, for the warning.
    """

    def __init__(self, step: str, context: TaskContext, reason: str = WINDOW_CLOSED) -> None:
        self.count = 0
        self._step = step
        self._context = context
        self._reason = reason

    def drop(self, count: int) -> None:
        """Takes note of so many elements that were dropped."""
        if not self.count:
            self._warn(count)
        self.count += count
        self._context.metrics_of(self._step).get_counter(COUNTER).inc(count)

    def _warn(self, count: int) -> None:
        _log.warning(
            "step '%s': dropped %d element%s as late, the first of this run: %s. All that are dropped are counted as "
            "%s. To keep them, give their window an allowed_lateness, let the watermark wait longer for what is out of "
            "order (max_delay_ms of ReadFromKafka, the watermark of another source), correct their timestamps, or use "
            "sage.transforms.WindowWithLateOutput, which puts them out by themselves",
            self._step, count, "s" if count > 1 else "", self._reason, COUNTER.name,
        )  # fmt: skip


def behind_watermark(windows: tuple[object, ...]) -> bool:
    """Returns whether one of these windows may be over for the steps behind the running one."""
    mark = watermark()
    if mark is None or mark <= MIN_MICROS:
        return False
    return any(window.max_timestamp().micros < mark for window in windows)  # type: ignore[attr-defined]
