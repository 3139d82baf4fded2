"""Dropping repeated elements: of one key, one within a length of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.coders import FastPrimitivesCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import OrderedListStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow

from sage import runtime
from sage.equality import CanonicalKey, canonical, has_own_coder
from sage.errors import ConfigError
from sage.joins import kv_types
from sage.transforms.joins.columns import On, key_functions
from sage.transforms.joins.timed import instant, last_instant, micros
from sage.windows import Length

__all__ = ["Deduplicate"]

_START = instant(-(1 << 63))


class Deduplicate(beam.PTransform):
    """Lets an element pass if none of its key has passed less than ``within`` before or after it.

    Input: rows, with ``on`` saying what makes two of them one, or (key, value) pairs. Output: those that pass, as they
    came, at once, with their timestamps. NULL is a key like others here, as in SQL's ``DISTINCT``. Keys are equal where
    their values are, as for `Join`: 1, 1.0 and ``numpy.int64(1)`` are one.

    By event time the lengths are between the elements' timestamps, in either direction, for elements come in any order.
    What comes out does not depend on when the watermark moves, for elements that are less than ``within`` behind it; an
    element later than that may pass again. By processing time they are between the instants of arrival, by the
    runner's clock (`sage.runtime.now`); a repeated run may differ.

    State kept: the time of each element that passed, until ``within`` after it, by event time twice that. In windows,
    elements are compared with those of the same window only; so deduplicate first and then set windows. Session windows
    are refused.

    Args:
        within: how far apart two elements of one key must be, at least, for both to pass.
        on: the columns, see `On`; or a function that makes the key of an element; None for (key, value) pairs.
        time: ``event`` or ``processing``.

    Raises:
        ConfigError: ``within`` is not more than nothing; ``time`` is neither; or the input has no such column.
    """

    def __init__(self, within: Length, on: On | Callable[[Any], Any] = None, time: str = "event") -> None:
        super().__init__()
        if time not in ("event", "processing"):
            raise ConfigError(f"Deduplicate: time must be event or processing, not {time!r}")
        self._within, self._on, self._time = micros(within), on, time
        if self._within <= 0:
            raise ConfigError(f"Deduplicate: within must be more than nothing, not {within!r}")

    def expand(self, rows):  # type: ignore[no-untyped-def]
        if rows.windowing.windowfn.is_merging():
            raise ConfigError("Deduplicate: windows that merge, such as sessions, have no state; set them afterwards")
        made = rows.element_type
        key_of: Any = self._on if callable(self._on) else key_functions("Deduplicate", self._on, rows, rows)[0]
        by_value = not has_own_coder(kv_types(rows)[0])
        if key_of is None and by_value:
            key_of = _key
        if key_of is not None:
            # Columns make canonical keys by themselves.
            form: Any = _Form(key_of) if callable(self._on) or self._on is None else key_of
            keyed = beam.Map(lambda row: (form(row), row)).with_output_types(typehints.Tuple[CanonicalKey, made])
            rows = rows | "Keyed" >> keyed
        by_event = self._time == "event"
        dofn = _ByEventTime(self._within) if by_event else _ByArrival(self._within)
        first = rows | "First" >> beam.ParDo(dofn).with_output_types(typehints.Tuple[kv_types(rows)])
        return first if key_of is None else first | "Row" >> beam.Values().with_output_types(made)


def _key(pair: Any) -> Any:
    return pair[0]


class _Form:
    """The canonical key of an element."""

    def __init__(self, key_of: Callable[[Any], Any]) -> None:
        self.key_of = key_of

    def __call__(self, element: Any) -> Any:
        return canonical(self.key_of(element))


class _ByEventTime(beam.DoFn):
    """One timer at a time for each key, behind the latest element that passed, forgets; it may come late."""

    PASSED = OrderedListStateSpec("passed", FastPrimitivesCoder())
    LATEST = ReadModifyWriteStateSpec("latest", VarIntCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, within: int) -> None:
        self.within = within

    def process(  # type: ignore[no-untyped-def]
        self,
        element,
        timestamp=beam.DoFn.TimestampParam,
        window=beam.DoFn.WindowParam,
        passed=beam.DoFn.StateParam(PASSED),
        latest=beam.DoFn.StateParam(LATEST),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        stamp, within = timestamp.micros, self.within
        if any(True for _ in passed.read_range(instant(stamp - within + 1), instant(stamp + within))):
            return ()
        passed.add((timestamp, None))
        known = latest.read()
        if known is None:
            self._set(forget, stamp, window)
        if known is None or known < stamp:
            latest.write(stamp)
        return (element,)

    def _set(self, forget: Any, latest: int, window: Any) -> None:
        # An element that is behind the watermark by nearly as much may come up to so long after this one.
        over = latest + 2 * self.within
        # What is beyond the window's end is forgotten with the window.
        if over <= last_instant(window):
            forget.set(instant(over), dynamic_timer_tag=str(latest))

    @on_timer(FORGET)
    def clear(  # type: ignore[no-untyped-def]
        self,
        tag=beam.DoFn.DynamicTimerTagParam,
        window=beam.DoFn.WindowParam,
        passed=beam.DoFn.StateParam(PASSED),
        latest=beam.DoFn.StateParam(LATEST),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        over, known = int(tag), latest.read()
        passed.clear_range(_START, instant(over + 1))
        if known is not None and known > over:
            self._set(forget, known, window)
        else:
            latest.clear()
        return ()


class _ByArrival(beam.DoFn):
    """The clock decides, the timer only forgets."""

    PASSED = ReadModifyWriteStateSpec("passed", VarIntCoder())
    FORGET = TimerSpec("forget", TimeDomain.REAL_TIME)

    def __init__(self, within: int) -> None:
        self.within = within

    def process(  # type: ignore[no-untyped-def]
        self,
        element,
        window=beam.DoFn.WindowParam,
        passed=beam.DoFn.StateParam(PASSED),
        forget=beam.DoFn.TimerParam(FORGET),
    ):
        now, last = round(runtime.now() * 1_000_000), passed.read()
        if last is not None and now - last < self.within:
            return ()
        passed.write(now)
        # In any other window a timer on the clock would hold the watermark back; there the state goes with the window.
        if isinstance(window, GlobalWindow):
            forget.set(instant(now + self.within))
        return (element,)

    @on_timer(FORGET)
    def clear(self, passed=beam.DoFn.StateParam(PASSED)):  # type: ignore[no-untyped-def]
        passed.clear()
        return ()
