"""What the joins in time share: instants in microseconds, and the two ways, for bounded and for unbounded input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from sage.errors import ConfigError
from sage.joins import JoinKind, check_windows
from sage.windows import Length, seconds

__all__ = ["at", "instant", "last_instant", "micros", "timed_join"]

_MIN, _MAX = MIN_TIMESTAMP.micros, MAX_TIMESTAMP.micros


def micros(length: Length) -> int:
    """A length of time in microseconds.

    Raises:
        ConfigError: it is none.
    """
    return round(seconds(length) * 1_000_000)


def instant(stamp: int) -> Timestamp:
    """The timestamp of a number of microseconds; one outside of all time is at its nearest end."""
    return Timestamp(0, stamp if _MIN <= stamp <= _MAX else min(max(stamp, _MIN), _MAX))


def last_instant(window: Any) -> int:
    """The last event time of a window (microseconds)."""
    return int(window.max_timestamp().micros)


def at(stamp: int, value: Any) -> TimestampedValue:
    """An output with its timestamp (microseconds)."""
    return TimestampedValue(value, instant(stamp))


def timed_join(
    owner: str, sides: tuple[Any, Any], kind: JoinKind, streamed: beam.DoFn, sorted_out: Callable[..., Any]
) -> beam.PCollection:
    """Applies a join in time.

    Args:
        owner: the transform's name, for messages.
        sides: the left and the right collection.
        kind: which rows come out.
        streamed: a stateful DoFn over ``(key, (side, microseconds, row))``, for input that goes on.
        sorted_out: the outputs of one ``(key, rows of both sides)`` in a window, for input that ends: what has all
            rows of a key needs no state and no timers.

    Raises:
        ConfigError: the sides have different windows, or ones that merge.
    """
    left, right = sides
    check_windows(owner, left, right)
    if left.windowing.windowfn.is_merging():
        raise ConfigError(f"{owner}: windows that merge, such as sessions, have no state; use others, or none")
    rows, alone = kind.gather(left, right, timed=True)
    made = kind.output_type(left, right)
    if left.is_bounded and right.is_bounded:
        matched = beam.ParDo(_Sorted(sorted_out)).with_output_types(made)
        joined = rows | "Group" >> beam.GroupByKey() | "Match" >> matched
    else:
        joined = rows | "Match" >> beam.ParDo(streamed).with_output_types(made)
    return kind.together(joined, alone, made)


class _Sorted(beam.DoFn):
    """One key and window at a time: both sides in order of time."""

    def __init__(self, match: Callable[..., Any]) -> None:
        self.match = match

    def process(self, group, window=beam.DoFn.WindowParam):  # type: ignore[no-untyped-def]
        key, values = group
        sides: tuple[list[Any], list[Any]] = ([], [])
        for side, stamp, row in values:
            sides[side].append((stamp, row))
        for rows in sides:
            rows.sort(key=_stamp)
        return self.match(key, *sides, last_instant(window))


def _stamp(row: tuple[int, Any]) -> int:
    return row[0]
