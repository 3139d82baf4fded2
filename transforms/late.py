"""Windows whose late elements are not lost: they go to an output of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import WindowFn

from sage import runtime
from sage.transforms.joins.timed import micros
from sage.windows import Length, window_into

__all__ = ["Punctual", "WindowWithLateOutput"]

_LATE, _ON_TIME = "late", "on_time"


class Punctual(NamedTuple):
    """What `WindowWithLateOutput` gives.

    Attributes:
        on_time: the elements in their windows, for a grouping.
        late: the elements that a grouping would drop, as they came, with their timestamps.
    """

    on_time: Any
    late: Any


class WindowWithLateOutput(beam.PTransform):
    """Puts elements into windows, and those whose windows are closed into an output of their own.

    A window is closed when the watermark has passed its end and the allowed lateness; what comes after that, groupings
    drop, and SAGE's count it as ``numLateRecordsDropped``. Apply this in place of ``WindowInto``, right before the
    grouping::

        on_time, late = clicks | WindowWithLateOutput(FixedWindows(60), allowed_lateness="30s")
        counts = on_time | beam.CombinePerKey(sum)
        late | WriteJsonLines("late.jsonl")

    Each element is in one of the outputs, and no grouping drops one that is on time. An element that is in several
    windows is late when all of them are closed. With many workers, one that is found late here might not be so yet
    in a grouping that waits for another worker's watermark.

    State kept: none. The watermark is the one that the runner tells (`sage.runtime.watermark`). Where it tells none, as
    Beam's own runners do, nothing is found late here.

    Args:
        windows: one of `sage.windows`, or any Beam ``WindowFn``; sessions count before they merge, as for Beam.
        allowed_lateness: how long after its end a window still takes elements.
        trigger: see `sage.windows.window_into`, as for the next two.
        accumulation: ``discarding`` or ``accumulating``; needed with a trigger.
        timestamp_combiner: the event time of a window's result.

    Raises:
        ConfigError: a value is of the wrong kind.
    """

    def __init__(
        self,
        windows: Any,
        allowed_lateness: Length = 0,
        trigger: Any = None,
        accumulation: str | int | None = None,
        timestamp_combiner: Any = None,
    ) -> None:
        super().__init__()
        self._lateness = micros(allowed_lateness)
        self._into = window_into(windows, trigger, allowed_lateness, accumulation, timestamp_combiner)

    def expand(self, rows: beam.PCollection[Any]) -> Punctual:
        split = _Split(self._into.windowing.windowfn, self._lateness)
        parts = rows | "Split" >> beam.ParDo(split).with_outputs(_LATE, main=_ON_TIME)
        for part in (_LATE, _ON_TIME):
            parts[part].element_type = rows.element_type
        return Punctual(parts[_ON_TIME] | "Windows" >> self._into, parts[_LATE])


class _Split(beam.DoFn):
    def __init__(self, windowfn: WindowFn, lateness: int) -> None:
        self.windowfn, self.lateness = windowfn, lateness

    def process(self, row: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Any:
        watermark = runtime.watermark()
        # No window of an element that is not behind the watermark is closed.
        if watermark is None or timestamp.micros >= watermark:
            return (row,)
        closed = watermark - self.lateness
        windows = self.windowfn.assign(WindowFn.AssignContext(timestamp, element=row))
        if any(window.max_timestamp().micros >= closed for window in windows):
            return (row,)
        return (beam.pvalue.TaggedOutput(_LATE, row),)
