"""Window assignment in whole microseconds, with windows that were made before used again."""

from __future__ import annotations

import math
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
    by_slot = slots_of(fn)
    if by_slot is None:
        assign, context = fn.assign, WindowFn.AssignContext
        return lambda stamp, value: tuple(assign(context(stamp, value)))
    length, offset, windows = by_slot
    return lambda stamp, value: windows((stamp.micros - offset) // length)


def slots_of(fn: Any) -> tuple[int, int, Callable[[int], tuple[Any, ...]]] | None:
    """How a window function cuts time into slots whose elements are all in the same windows; None if it does not.

    Returns:
        The length of a slot and where slot 0 begins (microseconds), and the windows of a slot by its number.
    """
    if type(fn) is window.FixedWindows:
        return fn.size.micros, fn.offset.micros, _fixed(fn.size.micros, fn.offset.micros)
    if type(fn) is window.SlidingWindows:
        length = math.gcd(fn.size.micros, fn.period.micros)
        return length, fn.offset.micros, _sliding(fn.size.micros, fn.period.micros, fn.offset.micros, length)
    return None


def _interval(start: int, end: int) -> IntervalWindow:
    return IntervalWindow(Timestamp(micros=start), Timestamp(micros=end))


def _fixed(size: int, offset: int) -> Callable[[int], tuple[Any, ...]]:
    return _remembered(lambda slot: (_interval(slot * size + offset, (slot + 1) * size + offset),))


def _sliding(size: int, period: int, offset: int, length: int) -> Callable[[int], tuple[Any, ...]]:
    def windows(slot: int) -> tuple[Any, ...]:
        after = slot * length
        last = after - after % period
        return tuple(_interval(offset + start, offset + start + size) for start in range(last, after - size, -period))

    return _remembered(windows)


def _remembered(make: Callable[[int], tuple[Any, ...]]) -> Callable[[int], tuple[Any, ...]]:
    known: dict[int, tuple[Any, ...]] = {}

    def windows(slot: int) -> tuple[Any, ...]:
        found = known.get(slot)
        if found is None:
            if len(known) > _REMEMBERED:
                known.clear()
            found = known[slot] = make(slot)
        return found

    return windows
