"""Window assignment in whole microseconds, with windows that were made before used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apache_beam.transforms import window
from apache_beam.transforms.window import IntervalWindow, WindowFn
from apache_beam.utils.timestamp import Timestamp

EVERYWHERE = (window.GlobalWindow(),)
KNOWN_WINDOWS = (window.FixedWindows, window.SlidingWindows, window.Sessions)
"""Window functions that look at nothing but the timestamp; beside them, ``GlobalWindows``."""

_REMEMBERED = 10_000
Assign = Callable[[Any, Any], tuple[Any, ...]]


def assigner(fn: Any) -> Assign:
    """``assign(timestamp, value)`` of a window function that does not look at the element's windows.

    It gives what ``fn.assign`` gives; for the standard functions without Beam's arithmetic on timestamps.
    """
    if type(fn) is window.GlobalWindows:
        return lambda stamp, value: EVERYWHERE
    if type(fn) is window.FixedWindows:
        return _fixed(fn.size.micros, fn.offset.micros)
    if type(fn) is window.SlidingWindows:
        return _sliding(fn.size.micros, fn.period.micros, fn.offset.micros)
    assign, context = fn.assign, WindowFn.AssignContext
    return lambda stamp, value: tuple(assign(context(stamp, value)))


def _interval(start: int, end: int) -> IntervalWindow:
    return IntervalWindow(Timestamp(micros=start), Timestamp(micros=end))


def _fixed(size: int, offset: int) -> Assign:
    known: dict[int, tuple[Any, ...]] = {}

    def assign(stamp: Any, value: Any) -> tuple[Any, ...]:
        number = (stamp.micros - offset) // size
        found = known.get(number)
        if found is None:
            if len(known) > _REMEMBERED:
                known.clear()
            start = number * size + offset
            found = known[number] = (_interval(start, start + size),)
        return found

    return assign


def _sliding(size: int, period: int, offset: int) -> Assign:
    known: dict[tuple[int, int], tuple[Any, ...]] = {}

    def assign(stamp: Any, value: Any) -> tuple[Any, ...]:
        micros = stamp.micros
        last = micros - (micros - offset) % period
        starts = range(last, micros - size, -period)
        place = (last, len(starts))
        found = known.get(place)
        if found is None:
            if len(known) > _REMEMBERED:
                known.clear()
            found = known[place] = tuple(_interval(start, start + size) for start in starts)
        return found

    return assign
