"""Plain values of scalars that are not plain Python: NumPy's, pandas', Beam's, and subclasses of the plain types.

Sinks store plain Python values. Neither NumPy nor pandas is imported for it: a value of theirs shows that they are.
"""

from __future__ import annotations

import datetime
import enum
import functools
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from apache_beam.utils.timestamp import Duration, Timestamp

from sage.transforms.dead_letter import shorten

__all__ = ["PLAIN_TYPES", "SURROGATE", "misfit", "plain", "shown", "type_name"]

PLAIN_TYPES: frozenset[type] = frozenset(
    {
        *(str, int, float, bool, bytes, type(None), Decimal, UUID),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
    }
)
"""The types that `plain` returns as they are; so it need not be called for a value of one of them."""

SURROGATE = "the text has half of a surrogate pair, which is not a character; remove or replace it"
"""Why some text cannot be encoded as UTF-8."""


def plain(value: Any) -> Any:
    """Returns the equal plain Python value of a scalar; a value that is no scalar of a known kind as it is.

    NaT and ``pandas.NA`` are None. Times of NumPy, pandas and Beam are those of ``datetime``.

    Raises:
        ValueError: no plain value is equal, as for a time with nanoseconds; the message is the reason and the advice.
    """
    cls = value.__class__
    if cls in PLAIN_TYPES:
        return value
    convert = _converter(cls)
    return value if convert is None else convert(value)


def misfit(where: str, column: str, value: Any, reason: object, row: Any) -> ValueError:
    """Returns the error about a value that a column cannot store."""
    return ValueError(
        f"{where}: column {column!r} cannot store {type_name(value)} {shorten(repr(value), 100)}: {reason}. "
        f"The row: {shown(row)}"
    )


def shown(row: Any) -> str:
    """Returns a row as text, short enough for an error message."""
    fields = row._asdict() if hasattr(row, "_asdict") else row
    return shorten(repr(dict(fields) if isinstance(fields, Mapping) else fields), 500)


def type_name(value: Any) -> str:
    """Returns the name of a value's type, with its package if that is not Python's own: ``numpy.int64``."""
    cls = type(value)
    package = cls.__module__.partition(".")[0]
    return cls.__name__ if package in ("builtins", "datetime", "decimal", "uuid") else f"{package}.{cls.__name__}"


@functools.lru_cache(maxsize=256)
def _converter(cls: type) -> Callable[[Any], Any] | None:
    """Returns the function that makes values of a class plain; None if they stay as they are."""
    package = cls.__module__.partition(".")[0]
    if package == "numpy" and issubclass(cls, sys.modules["numpy"].generic):
        return _numpy_converter(cls)
    if package == "pandas" and cls.__name__ in _PANDAS:
        return _PANDAS[cls.__name__]
    if issubclass(cls, Timestamp):
        return _from_beam_timestamp
    if issubclass(cls, Duration):
        return lambda value: datetime.timedelta(microseconds=value.micros)
    if cls in (bytearray, memoryview):
        return bytes
    for base, convert in ((int, int.__int__), (float, float.__float__), (str, str.__str__), (bytes, _base_bytes)):
        if issubclass(cls, base):
            return convert
    return _refuse_enum if issubclass(cls, enum.Enum) else None


def _base_bytes(value: bytes) -> bytes:
    return bytes(memoryview(value))


def _refuse_enum(value: enum.Enum) -> Any:
    raise ValueError("a member of an Enum is not equal to its value; write its .value or its .name")


def _numpy_converter(cls: type) -> Callable[[Any], Any]:
    numpy = sys.modules["numpy"]
    if issubclass(cls, numpy.datetime64):
        return _from_datetime64
    if issubclass(cls, numpy.timedelta64):
        return _from_timedelta64
    if cls is numpy.longdouble:
        return _from_longdouble
    return lambda value: value.item()


def _from_longdouble(value: Any) -> float:
    number = float(value)
    if number != value and value == value:
        raise ValueError("the number has more digits than a float; make it a float or a str")
    return number


def _from_datetime64(value: Any) -> Any:
    numpy = sys.modules["numpy"]
    if numpy.isnat(value):
        return None
    # NumPy wraps a time around that is out of a unit's range, so the years are looked at first.
    if not 1 <= int(value.astype("datetime64[Y]").astype("int64")) + 1970 <= 9999:
        raise ValueError("the time is outside of the years 1 to 9999")
    days = numpy.datetime_data(value.dtype)[0] in ("Y", "M", "W", "D")
    rounded = value.astype("datetime64[D]" if days else "datetime64[us]")
    if rounded != value:
        raise ValueError("the time is finer than a microsecond; round it")
    return rounded.item()


def _from_timedelta64(value: Any) -> Any:
    numpy = sys.modules["numpy"]
    if numpy.isnat(value):
        return None
    if numpy.datetime_data(value.dtype)[0] in ("generic", "Y", "M"):
        raise ValueError("the duration is in no fixed unit; make it one in days, seconds or parts of a second")
    if abs(int(value.astype("timedelta64[W]").astype("int64"))) > 142_857_000:
        raise ValueError("the duration is longer than a datetime.timedelta can be")
    rounded = value.astype("timedelta64[us]")
    if rounded != value:
        raise ValueError("the duration is finer than a microsecond; round it")
    return rounded.item()


def _from_pandas_timestamp(value: Any) -> datetime.datetime:
    if value.nanosecond:
        raise ValueError("the time is finer than a microsecond; round it")
    return value.to_pydatetime()


def _from_pandas_timedelta(value: Any) -> datetime.timedelta:
    if value.nanoseconds:
        raise ValueError("the duration is finer than a microsecond; round it")
    return value.to_pytimedelta()


def _from_beam_timestamp(value: Timestamp) -> datetime.datetime:
    try:
        return value.to_utc_datetime(has_tz=True)
    except (OverflowError, ValueError):
        raise ValueError("the time is outside of the years 1 to 9999, as that of an element without one is") from None


_PANDAS: dict[str, Callable[[Any], Any]] = {
    "Timestamp": _from_pandas_timestamp,
    "Timedelta": _from_pandas_timedelta,
    "NaTType": lambda value: None,
    "NAType": lambda value: None,
}
