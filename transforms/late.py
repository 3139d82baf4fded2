"""Windows whose late elements are not lost: they go to an output of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import typehints
from apache_beam.coders import FastPrimitivesCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindows, WindowFn

from sage.errors import ConfigError
from sage.transforms.joins.timed import instant, micros
from sage.windows import Length, window_into

__all__ = ["Punctual", "WindowWithLateOutput"]

_LATE, _ON_TIME = "late", "on_time"
_REMEMBERED = 1024


class Punctual(NamedTuple):
    """What `WindowWithLateOutput` gives.

    Attributes:
        on_time: the elements in their windows, for a grouping.
        late: the elements that a grouping would drop, in the global window, with their timestamps.
    """

    on_time: Any
    late: Any


class WindowWithLateOutput(beam.PTransform):
    """Puts elements into windows, and those whose windows are closed into an output of their own.

    A window is closed when the watermark has passed its end and the allowed lateness; what comes after that, Beam's
    groupings drop without a word. Apply this in place of ``WindowInto``, right before the grouping::

        on_time, late = clicks | WindowWithLateOutput(FixedWindows(60), allowed_lateness="30s")
        counts = on_time | beam.CombinePerKey(sum)
        late | WriteJsonLines("late.jsonl")

    Each element is in one of the outputs. One that is in several windows is late when all of them are closed. One that
    is found late here might not be so yet in a grouping whose watermark is behind; the other way round cannot be.

    How it knows: the elements are dealt out to ``shards`` keys; when the first element of a window is seen, each of
    them sets a timer for when that window closes. A timer that fires closes its window and all that end before. So an
    element is told late if some element before it, in whatever order, was of its window or of a later one that is
    closed too. (A late element that is the very first for such a window has nobody to tell; the grouping drops it.)

    State kept: for each shard the latest window that is closed, and a timer for each window that is not. Input that
    ends has no late elements; then this is ``WindowInto``.

    Args:
        windows: one of `sage.windows`, or any Beam ``WindowFn``; those by which sessions are made count before they
            merge, as they do for Beam.
        allowed_lateness: how long after its end a window still takes elements.
        trigger: see `sage.windows.window_into`, as for the next two.
        accumulation: ``discarding`` or ``accumulating``; needed with a trigger.
        timestamp_combiner: the event time of a window's result.
        shards: over how many keys the work is spread (count).

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
        shards: int = 16,
    ) -> None:
        super().__init__()
        if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
            raise ConfigError(f"WindowWithLateOutput: shards must be a whole number of 1 or more, not {shards!r}")
        self._shards, self._lateness = shards, micros(allowed_lateness)
        self._into = window_into(windows, trigger, allowed_lateness, accumulation, timestamp_combiner)

    def expand(self, rows: beam.PCollection[Any]) -> Punctual:
        made = rows.element_type
        anywhere = rows | "Anywhere" >> beam.WindowInto(GlobalWindows())
        if rows.is_bounded:
            late = anywhere | "None" >> beam.Filter(_never)
            return Punctual(rows | "Windows" >> self._into, late)
        deal = _Deal(self._into.windowing.windowfn, self._lateness, self._shards)
        dealt = anywhere | "Deal" >> beam.ParDo(deal).with_output_types(typehints.Tuple[int, typehints.Any])
        parts = dealt | "Split" >> beam.ParDo(_Split()).with_outputs(_LATE, main=_ON_TIME)
        for part in (_LATE, _ON_TIME):
            parts[part].element_type = made
        return Punctual(parts[_ON_TIME] | "Windows" >> self._into, parts[_LATE])


def _never(_row: Any) -> bool:
    return False


class _Deal(beam.DoFn):
    """Gives elements to the shards in turn: ``(shard, (closes, element))``.

    ``closes`` is the last instant (microseconds) at which a window of the element is open. Each shard is told of each
    new one as ``(shard, (closes,))``.
    """

    def __init__(self, windowfn: WindowFn, lateness: int, shards: int) -> None:
        self.windowfn, self.lateness, self.shards = windowfn, lateness, shards
        self.turn = 0

    def setup(self) -> None:
        self._told: set[int] = set()

    def process(self, row: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        windows = self.windowfn.assign(WindowFn.AssignContext(timestamp, element=row))
        closes = max(window.max_timestamp().micros for window in windows) + self.lateness
        if closes not in self._told:
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            self._told.add(closes)
            for shard in range(self.shards):
                yield shard, (closes,)
        self.turn = (self.turn + 1) % self.shards
        yield self.turn, (closes, row)


class _Split(beam.DoFn):
    """One shard: a timer that is set for a window and has not fired says that the window is open."""

    CLOSED = ReadModifyWriteStateSpec("closed", VarIntCoder())
    OPEN = ReadModifyWriteStateSpec("open", FastPrimitivesCoder())
    CLOSE = TimerSpec("close", TimeDomain.WATERMARK)

    def process(  # type: ignore[no-untyped-def]
        self,
        element,
        closed=beam.DoFn.StateParam(CLOSED),
        opened=beam.DoFn.StateParam(OPEN),
        close=beam.DoFn.TimerParam(CLOSE),
    ):
        _, (closes, *rows) = element
        last = closed.read()
        if last is not None and closes <= last:
            return [beam.pvalue.TaggedOutput(_LATE, row) for row in rows]
        if not rows:
            # A timer that is set again costs as much as a new one; the windows at hand are few.
            known = opened.read() or ()
            if closes not in known:
                opened.write((*known[-_REMEMBERED:], closes))
                close.set(instant(closes + 1), dynamic_timer_tag=str(closes))
        return rows

    @on_timer(CLOSE)
    def mark(  # type: ignore[no-untyped-def]
        self,
        tag=beam.DoFn.DynamicTimerTagParam,
        closed=beam.DoFn.StateParam(CLOSED),
        opened=beam.DoFn.StateParam(OPEN),
    ):
        over, last = int(tag), closed.read()
        if last is None or last < over:
            closed.write(over)
        opened.write(tuple(closes for closes in opened.read() or () if closes > over))
        return ()
