"""Windows in words: what `Stream.window` takes beside any Beam ``WindowFn``.

Lengths are seconds (numbers), ``timedelta``, Beam ``Duration``, or text with a unit (``"500ms"``, ``"10s"``,
``"5m"``, ``"1h"``).

>>> SlidingWindows(size="1m", every=10)
SlidingWindows(size='1m', every=10, offset=0)
>>> seconds("1m"), seconds(2.5)
(60.0, 2.5)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.transforms import trigger as triggers
from apache_beam.transforms import window as beam_windows
from apache_beam.transforms.trigger import AccumulationMode
from apache_beam.utils.timestamp import Duration

from sage.checks import suggestion
from sage.errors import ConfigError
from sage.options import parse_duration_ms

__all__ = [
    "GlobalWindow",
    "Length",
    "SessionWindows",
    "SlidingWindows",
    "TumblingWindows",
    "seconds",
    "window_into",
]

Length: TypeAlias = str | int | float | timedelta | Duration
"""A length of time: text with a unit, seconds, ``timedelta`` or Beam ``Duration``."""

_ACCUMULATION = {
    "discarding": AccumulationMode.DISCARDING,
    "accumulating": AccumulationMode.ACCUMULATING,
}


def seconds(length: Length) -> float:
    """A length of time in seconds.

    Raises:
        ConfigError: it is none; text needs a unit, since a bare number in text could be milliseconds or seconds.
    """
    if isinstance(length, timedelta):
        return length.total_seconds()
    if isinstance(length, Duration):
        return length.micros / 1_000_000
    if isinstance(length, str):
        if not length.strip()[-1:].isalpha():
            raise ConfigError(f"{length!r} has no unit: write it like '500ms', '10s', '5m' or '1h', or give seconds")
        return parse_duration_ms(length) / 1000
    if isinstance(length, bool) or not isinstance(length, (int, float)):
        raise ConfigError(f"{length!r} is not a length of time: give seconds, a timedelta, or text such as '10s'")
    return length


def _positive(owner: str, what: str, length: Length) -> float:
    value = seconds(length)
    if value <= 0:
        raise ConfigError(f"{owner}: {what} must be more than nothing, not {length!r}")
    return value


@dataclass(frozen=True)
class TumblingWindows:
    """Windows of one size, one after another; each element is in one.

    Args:
        size: length of a window.
        offset: where windows begin, past each whole multiple of size since the Unix epoch.
    """

    size: Length
    offset: Length = 0

    def to_beam(self) -> beam.window.WindowFn:
        """The Beam ``WindowFn``."""
        return beam_windows.FixedWindows(_positive("TumblingWindows", "size", self.size), seconds(self.offset))


@dataclass(frozen=True)
class SlidingWindows:
    """Windows of one size that begin every so often; each element is in size / every of them.

    Args:
        size: length of a window.
        every: time from one window's beginning to the next.
        offset: where windows begin, past each whole multiple of every since the Unix epoch.
    """

    size: Length
    every: Length
    offset: Length = 0

    def to_beam(self) -> beam.window.WindowFn:
        """The Beam ``WindowFn``."""
        size = _positive("SlidingWindows", "size", self.size)
        return beam_windows.SlidingWindows(size, _positive("SlidingWindows", "every", self.every), seconds(self.offset))


@dataclass(frozen=True)
class SessionWindows:
    """For each key, a window for each burst of elements; a burst ends when nothing comes for ``gap``.

    Args:
        gap: how long nothing must come.
    """

    gap: Length

    def to_beam(self) -> beam.window.WindowFn:
        """The Beam ``WindowFn``."""
        return beam_windows.Sessions(_positive("SessionWindows", "gap", self.gap))


@dataclass(frozen=True)
class GlobalWindow:
    """One window for all time, as before any window was set."""

    def to_beam(self) -> beam.window.WindowFn:
        """The Beam ``WindowFn``."""
        return beam_windows.GlobalWindows()


def window_into(
    windows: Any,
    trigger: triggers.TriggerFn | None = None,
    allowed_lateness: Length = 0,
    accumulation: str | int | None = None,
    timestamp_combiner: Any = None,
) -> beam.WindowInto:
    """The Beam transform for a windowing.

    Args:
        windows: one of this module's, or any Beam ``WindowFn``.
        trigger: a Beam trigger; by default a window gives its result once, when the watermark passes its end, and
            again for each late element.
        allowed_lateness: how long after its end a window still takes elements.
        accumulation: what a further result of one window holds: ``"discarding"`` only what is new,
            ``"accumulating"`` all so far; needed with a trigger. Beam's ``AccumulationMode`` is taken too.
        timestamp_combiner: the event time of a window's result: a Beam ``TimestampCombiner``; the window's end by
            default.

    Raises:
        ConfigError: a value is of the wrong kind, or a trigger has no accumulation.
    """
    owner = f"window({type(windows).__name__})"
    window_fn = windows.to_beam() if hasattr(windows, "to_beam") else windows
    if not isinstance(window_fn, beam.window.WindowFn):
        raise ConfigError(
            f"{owner}: expected TumblingWindows, SlidingWindows, SessionWindows, GlobalWindow or a Beam WindowFn"
        )
    if trigger is not None and not isinstance(trigger, triggers.TriggerFn):
        raise ConfigError(f"{owner}: trigger must be a Beam trigger such as AfterWatermark(...), not {trigger!r}")
    if trigger is not None and accumulation is None:
        raise ConfigError(f"{owner}: a trigger needs accumulation='discarding' or 'accumulating'")
    if isinstance(accumulation, str):
        if accumulation not in _ACCUMULATION:
            near = suggestion(accumulation, _ACCUMULATION) or "."
            raise ConfigError(
                f"{owner}: unknown accumulation {accumulation!r}{near} Accepted: {', '.join(_ACCUMULATION)}"
            )
        accumulation = _ACCUMULATION[accumulation]
    return beam.WindowInto(
        window_fn,
        trigger=trigger,
        accumulation_mode=accumulation,
        timestamp_combiner=timestamp_combiner,
        allowed_lateness=seconds(allowed_lateness),
    )
