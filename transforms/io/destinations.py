"""The folders below a folder of parts that elements go to."""

from __future__ import annotations

import datetime
import re
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from sage.errors import ConfigError

__all__ = ["check_destination", "fill_pattern"]


def fill_pattern(pattern: Any, timestamp: Timestamp) -> str:
    """Returns a pattern of ``strftime`` filled with an event time in UTC, with four digits for each year.

    Raises:
        ConfigError: the time is outside of the years 1 to 9999.
    """
    try:
        return _filled(pattern, timestamp.to_utc_datetime(has_tz=True))
    except (OverflowError, ValueError) as error:
        raise ConfigError(
            f"destination={pattern!r} is filled with event times, and an element has {timestamp}: give the elements "
            "times, or choose by a function of the element"
        ) from error


def _filled(pattern: str, time: datetime.datetime) -> str:
    if time.year < 1_000 or "%s" in pattern:
        # The C library pads no year with zeros, and takes the seconds since 1970 in the zone of the machine.
        padded = {
            "%Y": f"{time.year:04d}",
            "%G": f"{time.isocalendar()[0]:04d}",
            "%F": f"{time.year:04d}-%m-%d",
            "%C": f"{time.year // 100:02d}",
            "%c": f"%a %b %e %H:%M:%S {time.year:04d}",
            "%s": str(int(time.timestamp())),
        }
        pattern = re.sub("%.", lambda match: padded.get(match[0], match[0]), pattern)
    return time.strftime(pattern)


def check_destination(destination: Any) -> None:
    """Checks the name of a folder.

    Raises:
        ConfigError: it is not a path below the folder of parts.
    """
    if not isinstance(destination, str):
        raise ConfigError(f"destination must give a folder's name, not {type(destination).__name__} {destination!r}")
    parts = destination.split("/")
    if destination and any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise ConfigError(
            f"destination gave {destination!r}: it must be a path below the folder, of names that do not begin with a "
            "dot, as 'country=DE/day=2024-02-29'"
        )
