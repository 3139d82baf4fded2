"""The as-of join: each left row with the latest right row at or before it."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
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

__all__ = ["AsOfJoin"]

_ROWS = FastPrimitivesCoder()
_START = instant(-(1 << 63))


class AsOfJoin(beam.PTransform):
    """Joins each left row with the latest right row of its key at or before its own event time.

    As SQL's ``ASOF JOIN ... ON l.key = r.key AND l.time >= r.time``, where a row's time is its event time. Input and
    output are those of `Join`: one pair for each left row. Of right rows of one key and time the last to come counts.

    Rows may come in any order: a left row waits until the watermark has passed its time, when no right row at or
    before it can come any more. The output has the left row's own timestamp, and is not late: it comes out with the
    watermark's first step past that. Where both sides end, rows are grouped and sorted, with the same result.

    State kept: left rows, with a timer each, and right rows until the watermark has passed them; and of each key the
    latest right row, for ever where no tolerance is given. In windows, rows are joined within their window. A left
    row that is later than the watermark is joined with what is still kept, at the watermark's next step.

    Args:
        on: the columns, see `On`; None for (key, value) pairs.
        tolerance: how old a right row may be, at most; by default there is no limit.
        how: ``inner``, or ``left`` for left rows without partner as well.

    Raises:
        ConfigError: the tolerance is less than nothing; or as for `Join`. Session windows are refused.
    """

    def __init__(self, on: On = None, tolerance: Length | None = None, how: str = "inner") -> None:
        super().__init__()
        self._on, self._how = on, check_how("AsOfJoin", how, ("inner", "left"))
        self._tolerance = None if tolerance is None else micros(tolerance)
        if self._tolerance is not None and self._tolerance < 0:
            raise ConfigError(f"AsOfJoin: tolerance must not be less than nothing, not {tolerance!r}")

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        kind = join_kind("AsOfJoin", self._how, self._on, *pcollections)
        latest = _Latest(kind, self._tolerance)
        return timed_join("AsOfJoin", pcollections, kind, _Match(latest), latest)


class _Latest:
    """The results of one key, from rows in order of time."""

    def __init__(self, kind: JoinKind, tolerance: int | None) -> None:
        self.kind, self.tolerance = kind, tolerance

    def __call__(self, key: Any, lefts: list[Any], rights: list[Any], last: int = 0) -> Iterator[Any]:
        stamps = [stamp for stamp, _ in rights]
        for stamp, left in lefts:
            place = bisect.bisect_right(stamps, stamp) - 1
            if place >= 0 and (self.tolerance is None or stamp - stamps[place] <= self.tolerance):
                yield at(stamp, self.kind.result(key, left, rights[place][1]))
            elif self.kind.keeps_left:
                yield at(stamp, self.kind.result(key, left, None))


class _Match(beam.DoFn):
    """The same from rows as they come.

    Each timer's tag is an instant that the watermark has passed when it fires. Whichever timer comes, all left rows up
    to its instant are done, and then the right rows that no later left row can want are forgotten. So the order in
    which a runner fires timers does not matter. For the right rows of a key there is one timer, behind their latest.
    """

    LEFTS = OrderedListStateSpec("left", _ROWS)
    RIGHTS = OrderedListStateSpec("right", _ROWS)
    NEWEST = ReadModifyWriteStateSpec("newest", VarIntCoder())
    RIPE = TimerSpec("ripe", TimeDomain.WATERMARK)
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, latest: _Latest) -> None:
        self.latest = latest

    def process(  # type: ignore[no-untyped-def]
        self,
        element,
        lefts=beam.DoFn.StateParam(LEFTS),
        rights=beam.DoFn.StateParam(RIGHTS),
        newest=beam.DoFn.StateParam(NEWEST),
        ripe=beam.DoFn.TimerParam(RIPE),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        _, (side, stamp, row) = element
        if side == LEFT:
            lefts.add((instant(stamp), row))
            ripe.set(instant(stamp + 1), dynamic_timer_tag=str(stamp))
            return ()
        rights.add((instant(stamp), row))
        known = newest.read()
        if known is None:
            forget.set(instant(stamp + 1), dynamic_timer_tag=str(stamp))
        if known is None or known < stamp:
            newest.write(stamp)
        return ()

    @on_timer(RIPE)
    def match(  # type: ignore[no-untyped-def]
        self,
        key=beam.DoFn.KeyParam,
        tag=beam.DoFn.DynamicTimerTagParam,
        lefts=beam.DoFn.StateParam(LEFTS),
        rights=beam.DoFn.StateParam(RIGHTS),
    ):
        return self._results(key, int(tag), lefts, rights)

    @on_timer(FORGET)
    def clear(  # type: ignore[no-untyped-def]
        self,
        key=beam.DoFn.KeyParam,
        tag=beam.DoFn.DynamicTimerTagParam,
        window=beam.DoFn.WindowParam,
        lefts=beam.DoFn.StateParam(LEFTS),
        rights=beam.DoFn.StateParam(RIGHTS),
        newest=beam.DoFn.StateParam(NEWEST),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        passed, known, tolerance = int(tag), newest.read(), self.latest.tolerance
        yield from self._results(key, passed, lefts, rights)
        if known is not None and known > passed:
            forget.set(instant(known + 1), dynamic_timer_tag=str(known))
        elif known is not None and tolerance is not None and passed < (end := self._useless(known, window)):
            forget.set(instant(end + 1), dynamic_timer_tag=str(end))
        else:
            newest.clear()

    def _useless(self, newest: int, window: Any) -> int:
        """The last instant at which the newest right row may have a partner."""
        return min(newest + (self.latest.tolerance or 0), last_instant(window))

    def _results(self, key: Any, passed: int, lefts: Any, rights: Any) -> Iterator[Any]:
        """What comes out up to an instant that the watermark has passed."""
        until = instant(passed + 1)
        ripe = [(when.micros, row) for when, row in lefts.read_range(_START, until)]
        known = [(when.micros, row) for when, row in rights.read_range(_START, until)]
        if ripe:
            lefts.clear_range(_START, until)
            yield from self.latest(key, ripe, known)
        if known:
            newest, tolerance = known[-1][0], self.latest.tolerance
            if tolerance is not None and newest + tolerance <= passed:
                rights.clear_range(_START, until)
            elif known[0][0] < newest:
                rights.clear_range(_START, instant(newest))
