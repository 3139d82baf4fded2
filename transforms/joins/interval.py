"""The interval join: rows of one key whose event times are near each other."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.coders import FastPrimitivesCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import OrderedListStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer

from sage.errors import ConfigError
from sage.joins import LEFT, JoinKind, check_how
from sage.transforms.joins.columns import On, join_kind
from sage.transforms.joins.timed import at, instant, last_instant, micros, timed_join
from sage.windows import Length

__all__ = ["IntervalJoin"]

_ROWS = FastPrimitivesCoder()


class IntervalJoin(beam.PTransform):
    """Joins a left row with each right row of its key from ``before`` it to ``after`` it, both ends included.

    As SQL's ``ON l.key = r.key AND r.time BETWEEN l.time - before AND l.time + after``, where a row's time is its event
    time (the element's timestamp). Input and output are those of `Join`. For input that goes on, this is a keyed step
    with state and timers; where both sides end, rows are grouped and sorted, with the same result.

    Timestamps of the output, none of which is late: a pair has the later of its two rows' times, and comes out as soon
    as both are there; so does a left row of ``semi``. A row without partner comes out when the watermark has passed
    the end of its interval, and has the interval's last instant as its time, or its own if that is later. A row with a
    NULL key comes out at once with its own.

    State kept: each row until the watermark says that no partner can come, at most about twice the interval's length
    after it; and a timer for each row that would come out by itself. In windows, rows are joined within their window,
    and its end ends their interval. A row that is later than the watermark is joined with what is still kept.

    Args:
        on: the columns, see `On`; None for (key, value) pairs.
        within: how far a right row may be from a left one in either direction; instead of the next two.
        before: how far a right row may be before a left one; less than 0 where it must be after it.
        after: how far a right row may be after a left one.
        how: ``inner``, ``left``, ``right``, ``full``, ``semi`` or ``anti``.

    Raises:
        ConfigError: the interval is empty or not given; or as for `Join`. Session windows are refused.
    """

    def __init__(
        self,
        on: On = None,
        within: Length | None = None,
        *,
        before: Length | None = None,
        after: Length | None = None,
        how: str = "inner",
    ) -> None:
        super().__init__()
        self._on, self._how = on, check_how("IntervalJoin", how)
        given = before is not None or after is not None
        if (within is not None) == given:
            raise ConfigError("IntervalJoin: give within, or before and after")
        back, forth = (within, within) if within is not None else (before or 0, after or 0)
        self._back, self._forth = micros(back or 0), micros(forth or 0)
        if self._back + self._forth < 0:
            raise ConfigError(f"IntervalJoin: no time is from {back!r} before to {forth!r} after")

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        kind = join_kind("IntervalJoin", self._how, self._on, *pcollections)
        spans = (_Span(-self._back, self._forth), _Span(-self._forth, self._back))
        return timed_join("IntervalJoin", pcollections, kind, _Match(kind, spans), _MatchSorted(kind, spans))


@dataclass(frozen=True)
class _Span:
    """Where the partners of a row are, from its own time (microseconds); both ends included."""

    low: int
    high: int

    def ends(self, stamp: int, last: int) -> int:
        """The last instant at which a partner may come for a row, in a window that ends with ``last``."""
        return min(max(stamp + self.high, stamp), last)


class _MatchSorted:
    """The results of one key, from all of its rows."""

    def __init__(self, kind: JoinKind, spans: tuple[_Span, _Span]) -> None:
        self.kind, self.spans = kind, spans

    def __call__(self, key: Any, lefts: list[Any], rights: list[Any], last: int) -> Iterator[Any]:
        kind, (span, back) = self.kind, self.spans
        stamps = [stamp for stamp, _ in rights]
        met = bytearray(len(rights))
        for stamp, left in lefts:
            low = bisect.bisect_left(stamps, stamp + span.low)
            high = bisect.bisect_right(stamps, stamp + span.high)
            if low == high:
                if kind.keeps_left:
                    yield at(span.ends(stamp, last), kind.result(key, left, None))
            elif kind.one_sided:
                if not kind.keeps_left:
                    yield at(max(stamp, stamps[low]), kind.result(key, left, None))
            else:
                met[low:high] = b"\1" * (high - low)
                for other, right in rights[low:high]:
                    yield at(max(stamp, other), kind.result(key, left, right))
        if kind.keeps_right:
            for (stamp, right), has_met in zip(rights, met, strict=True):
                if not has_met:
                    yield at(back.ends(stamp, last), kind.result(key, None, right))


class _Match(beam.DoFn):
    """The same from rows as they come.

    A row for which it matters whether it has a partner is in a list of its own until the first one comes. A timer for
    each such row puts it out. One more timer per key, set behind the end of the latest interval there is, forgets rows;
    it may come late, never early. A timer's tag is the last instant of the interval it waits for: a runner may fire
    it late or round its time, and in any order with others.
    """

    ROWS = tuple(OrderedListStateSpec(name, _ROWS) for name in ("left", "right"))
    LONE = tuple(OrderedListStateSpec(name, _ROWS) for name in ("lone_left", "lone_right"))
    END = ReadModifyWriteStateSpec("end", VarIntCoder())
    OVER = TimerSpec("over", TimeDomain.WATERMARK)
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, kind: JoinKind, spans: tuple[_Span, _Span]) -> None:
        self.kind, self.spans = kind, spans
        self.keeps = (kind.keeps_left, kind.keeps_right)
        # Left rows of semi and anti have nothing left to do once they have met a partner.
        self.waits = (kind.keeps_left or kind.one_sided, kind.keeps_right)

    def process(  # type: ignore[no-untyped-def]
        self,
        element,
        window=beam.DoFn.WindowParam,
        left=beam.DoFn.StateParam(ROWS[0]),
        right=beam.DoFn.StateParam(ROWS[1]),
        lone_left=beam.DoFn.StateParam(LONE[0]),
        lone_right=beam.DoFn.StateParam(LONE[1]),
        end=beam.DoFn.StateParam(END),
        over=beam.DoFn.TimerParam(OVER),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        key, (side, stamp, row) = element
        rows, lone = (left, right), (lone_left, lone_right)
        other, span = 1 - side, self.spans[side]
        low, high = instant(stamp + span.low), instant(stamp + span.high + 1)
        partners = list(rows[other].read_range(low, high))
        if self.waits[other] and (lonely := list(lone[other].read_range(low, high))):
            lone[other].clear_range(low, high)
            partners += lonely
            if not self.kind.one_sided:
                for when, partner in lonely:
                    rows[other].add((when, partner))
        if partners:
            yield from self._results(key, side, stamp, row, partners)
        if self.kind.one_sided and side == LEFT and partners:
            return
        ends = span.ends(stamp, last_instant(window))
        if self.waits[side] and not partners:
            lone[side].add((instant(stamp), row))
            if self.keeps[side]:
                over.set(instant(ends + 1), dynamic_timer_tag=str(ends))
        else:
            rows[side].add((instant(stamp), row))
        latest = end.read()
        if latest is None:
            forget.set(instant(ends + 1), dynamic_timer_tag=str(ends))
        if latest is None or latest < ends:
            end.write(ends)

    def _results(self, key: Any, side: int, stamp: int, row: Any, partners: list[Any]) -> Iterator[Any]:
        if self.kind.one_sided:
            if self.kind.keeps_left:
                return
            if side == LEFT:
                first = min(when.micros for when, _ in partners)
                partners = [(instant(first), None)]
        for when, partner in partners:
            left, right = (row, partner) if side == LEFT else (partner, row)
            result = self.kind.result(key, left, right)
            # What is not said otherwise has the time of the row that is here.
            yield result if when.micros <= stamp else at(when.micros, result)

    @on_timer(OVER)
    def tell(  # type: ignore[no-untyped-def]
        self,
        key=beam.DoFn.KeyParam,
        tag=beam.DoFn.DynamicTimerTagParam,
        window=beam.DoFn.WindowParam,
        lone_left=beam.DoFn.StateParam(LONE[0]),
        lone_right=beam.DoFn.StateParam(LONE[1]),
    ):
        ended, last = int(tag), last_instant(window)
        for side, lone in enumerate((lone_left, lone_right)):
            if self.keeps[side]:
                span = self.spans[side]
                yield from self._lonely(key, side, lone, self._rest(span, ended, last), last)

    def _lonely(self, key: Any, side: int, lone: Any, until: Any, last: int) -> Iterator[Any]:
        gone = list(lone.read_range(instant(-(1 << 63)), until))
        if gone:
            lone.clear_range(instant(-(1 << 63)), until)
        for when, row in gone:
            left, right = (row, None) if side == LEFT else (None, row)
            yield at(self.spans[side].ends(when.micros, last), self.kind.result(key, left, right))

    def _rest(self, span: _Span, ended: int, last: int) -> Any:
        """The time from which on rows are still waiting when the intervals up to ``ended`` are over."""
        return instant((1 << 63) if ended >= last else ended - max(span.high, 0) + 1)

    @on_timer(FORGET)
    def clear(  # type: ignore[no-untyped-def]
        self,
        tag=beam.DoFn.DynamicTimerTagParam,
        window=beam.DoFn.WindowParam,
        left=beam.DoFn.StateParam(ROWS[0]),
        right=beam.DoFn.StateParam(ROWS[1]),
        lone_left=beam.DoFn.StateParam(LONE[0]),
        lone_right=beam.DoFn.StateParam(LONE[1]),
        end=beam.DoFn.StateParam(END),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        ended, last, latest = int(tag), last_instant(window), end.read()
        for side, lists in enumerate(((left, lone_left), (right, lone_right))):
            until = self._rest(self.spans[side], ended, last)
            for rows, waits in zip(lists, (False, self.keeps[side]), strict=True):
                if not waits:
                    rows.clear_range(instant(-(1 << 63)), until)
        if latest is None or latest <= ended:
            end.clear()
        else:
            forget.set(instant(latest + 1), dynamic_timer_tag=str(latest))
