"""Columns of Python values as Arrow arrays, each value stored as an equal one or refused.

Arrow converts more than a table should: 1.5 into the integer 1, a time into its day, a time of one zone into one
without a zone. Here a column whose values all have a type that Arrow stores unchanged goes to Arrow as it is; other
values are looked at one by one.
"""

from __future__ import annotations

import datetime
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from sage.transforms.io.scalars import PLAIN_TYPES, SURROGATE, plain, type_name

__all__ = ["CONVERSION_ERRORS", "Misfit", "arrow_column"]

CONVERSION_ERRORS = (pa.ArrowException, OverflowError, TypeError, AttributeError, ValueError, RecursionError)
"""What Arrow raises of values that it cannot convert."""

_NULL = type(None)
_FINE_UNITS = ("us", "ns")
_FINER = "it is finer than the column's unit; round it"


class Misfit(ValueError):
    """A value that its column cannot store.

    Attributes:
        row: its place among the values, from 0; None if the values do not fit each other.
    """

    def __init__(self, row: int | None, reason: str) -> None:
        super().__init__(reason)
        self.row = row


def arrow_column(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Returns the values as an array.

    Args:
        values: one for each row; None, NaT and ``pandas.NA`` are null.
        kind: the type of the column; None for the one that Arrow infers.

    Raises:
        Misfit: a value does not fit.
    """
    try:
        if kind is None:
            # What is inferred is checked as a given type is: a column of times with and without zone is neither.
            if not PLAIN_TYPES.issuperset(map(type, values)):
                values = [value if value.__class__ in PLAIN_TYPES else _deeply_plain(value) for value in values]
            array = pa.array(values)
            kind = array.type
            fitted = _fit(values, kind)
            array = array if fitted is values else pa.array(fitted, kind)
        else:
            array = pa.array(_fit(values, kind), kind)
    except CONVERSION_ERRORS as error:
        raise _first_misfit(values, kind, error) from error
    if kind in (pa.float32(), pa.float16()) and _has_infinite(array):
        for row, (value, stored) in enumerate(zip(values, array.to_pylist(), strict=True)):
            if stored is not None and math.isinf(stored) and not math.isinf(value):
                raise Misfit(row, "it is too large; make the column float64")
    return array


def _has_infinite(array: pa.Array) -> bool:
    if array.type == pa.float16():  # Arrow before 21 has no function for these
        return any(value is not None and math.isinf(value) for value in array.to_pylist())
    return bool(pc.any(pc.is_inf(array)).as_py())


def _first_misfit(values: list[Any], kind: pa.DataType | None, error: Exception) -> Misfit:
    if kind is not None:
        for row, value in enumerate(values):
            try:
                pa.array(_fit([value], kind), kind)
            except CONVERSION_ERRORS as found:
                return Misfit(row, _reason(found))
        return Misfit(None, _reason(error))
    for row, value in enumerate(values):
        try:
            pa.array([_deeply_plain(value)])
        except CONVERSION_ERRORS as found:
            return Misfit(row, _reason(found))
    return Misfit(None, f"has values that do not go together ({error}); give schema=")


def _reason(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "it is out of the type's range"
    return SURROGATE if isinstance(error, UnicodeEncodeError) else str(error)


def _deeply_plain(value: Any) -> Any:
    """Returns a value with all scalars in it plain, for Arrow to infer its type."""
    if isinstance(value, (list, tuple)):
        return [item if item.__class__ in PLAIN_TYPES else _deeply_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _deeply_plain(item) for name, item in value.items()}
    return plain(value)


@dataclass(frozen=True)
class _Fit:
    """How values come into a column of one type.

    Attributes:
        direct: the types whose values Arrow stores unchanged or refuses.
        convert: makes of any other value one that Arrow stores unchanged, or raises a ValueError with the reason.
    """

    direct: frozenset[type]
    convert: Callable[[Any], Any]


def _fit(values: Sequence[Any], kind: pa.DataType) -> Sequence[Any]:
    how = _fit_for(kind)
    direct = how.direct
    if direct.issuperset(map(type, values)):
        return values
    return [value if value.__class__ in direct else how.convert(value) for value in values]


@functools.cache
def _needs_numpy_halves() -> bool:
    """Returns whether the installed Arrow (before 21) makes half floats of NumPy's only."""
    try:
        pa.array([0.5], pa.float16())
    except pa.ArrowException:
        return True
    return False


def _half(value: Any) -> Any:
    import numpy as np

    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked for afterwards
        return np.float16(_number(value))


@functools.lru_cache(maxsize=1_024)
def _fit_for(kind: pa.DataType) -> _Fit:
    types = pa.types
    if types.is_integer(kind):
        return _scalar(_integer, int)
    if types.is_float16(kind) and _needs_numpy_halves():
        return _scalar(_half)
    if types.is_floating(kind):
        return _scalar(_number, int, float)
    if types.is_boolean(kind):
        return _scalar(plain, bool)
    if types.is_date(kind):
        return _scalar(_date, datetime.date, int)
    if types.is_timestamp(kind):
        finest = kind.unit in _FINE_UNITS and kind.tz == "UTC"
        return _scalar(functools.partial(_timestamp, kind.unit, kind.tz), int, *[datetime.datetime] * finest)
    if types.is_time(kind):
        return _scalar(functools.partial(_time, kind.unit), int)
    if types.is_duration(kind):
        return _scalar(functools.partial(_duration, kind.unit), int, *[datetime.timedelta] * (kind.unit == "us"))
    if types.is_dictionary(kind):
        return _fit_for(kind.value_type)
    if types.is_map(kind):
        return _Fit(frozenset({_NULL}), functools.partial(_map, kind))
    if types.is_struct(kind):
        return _Fit(frozenset({_NULL}), functools.partial(_struct, kind))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _Fit(frozenset({_NULL}), functools.partial(_list, kind.value_type))
    return _scalar(plain, str, bytes, Decimal, UUID, *[int] * types.is_decimal(kind))


def _scalar(convert: Callable[[Any], Any], *direct: type) -> _Fit:
    return _Fit(frozenset({_NULL, *direct}), convert)


def _integer(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, (float, Decimal)):
        whole = int(value) if math.isfinite(value) else None
        if whole != value:
            raise ValueError("it is not a whole number; round it, or make the column a float or a decimal")
        return whole
    if isinstance(value, UUID):
        raise ValueError("a UUID is not a number; write its str or its bytes")
    return value


def _number(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number; make it 0.0 or 1.0")
    return value


def _date(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None or value.time() != datetime.time():
            raise ValueError("it has a time of day or a zone; make it a date, or the column a timestamp")
        return value.date()
    return value


def _timestamp(unit: str, zone: str | None, value: Any) -> Any:
    if value.__class__ is datetime.datetime and value.tzinfo is None and zone is None and unit in _FINE_UNITS:
        return value
    package = type(value).__module__.partition(".")[0]
    if package == "numpy" and isinstance(value, sys.modules["numpy"].datetime64):
        value = _numpy_time(value, unit)
    elif package != "pandas" or unit != "ns" or not isinstance(value, datetime.datetime) or value != value:
        value = plain(value)
    if not isinstance(value, datetime.datetime):
        return value
    offset = value.utcoffset()
    if zone is None and offset:
        raise ValueError("it has a zone, and the column has none; make it UTC, or give the column a zone")
    if zone not in (None, "UTC") and offset is None:
        raise ValueError("it has no zone, and the column has one; give it a zone")
    if (unit == "s" and value.microsecond) or (unit == "ms" and value.microsecond % 1_000):
        raise ValueError(_FINER)
    return value


def _numpy_time(value: Any, unit: str) -> Any:
    numpy = sys.modules["numpy"]
    if numpy.isnat(value):
        return None
    fine = value.astype(f"datetime64[{'ns' if unit == 'ns' else 'us'}]")
    # NumPy wraps a time around that is out of a unit's range.
    if fine != value or fine.astype("datetime64[ms]") != value.astype("datetime64[ms]"):
        raise ValueError("it is finer than the column's unit, or out of its range; round it, or change the unit")
    return int(fine.astype("int64")) if unit == "ns" else plain(fine)


def _time(unit: str, value: Any) -> Any:
    value = plain(value)
    if isinstance(value, datetime.time):
        if value.tzinfo is not None:
            raise ValueError("a time of day with a zone has no column type; make it a datetime, or take the zone off")
        if (unit == "s" and value.microsecond) or (unit == "ms" and value.microsecond % 1_000):
            raise ValueError(_FINER)
    return value


def _duration(unit: str, value: Any) -> Any:
    package = type(value).__module__.partition(".")[0]
    if unit == "ns" and package == "pandas" and isinstance(value, datetime.timedelta) and value == value:
        exact: Any = value
        value, package = exact.to_timedelta64(), "numpy"
    if unit == "ns" and package == "numpy" and isinstance(value, sys.modules["numpy"].timedelta64):
        numpy = sys.modules["numpy"]
        fine = value.astype("timedelta64[ns]")
        same = fine == value and fine.astype("timedelta64[ms]") == value.astype("timedelta64[ms]")
        if same and numpy.datetime_data(value.dtype)[0] != "generic":
            return int(fine.astype("int64"))
    value = plain(value)
    if isinstance(value, datetime.timedelta):
        part = {"s": 1_000_000, "ms": 1_000}.get(unit, 1)
        if value.microseconds % part:
            raise ValueError(_FINER)
    return value


def _list(kind: pa.DataType, value: Any) -> Any:
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype") and value.shape:
        stored = {"f": pa.types.is_floating, "i": pa.types.is_integer, "u": pa.types.is_integer}.get(value.dtype.kind)
        if value.ndim == 1 and stored is not None and stored(kind):
            return value
        value = list(value)
    if isinstance(value, (list, tuple)):
        return _fit(value, kind)
    made = plain(value)
    if made is None:
        return None
    raise ValueError(f"the column holds lists, and this is {type_name(value)}; make it a list")


def _map(kind: pa.DataType, value: Any) -> Any:
    made = plain(value)
    if made is None:
        return None
    if not isinstance(made, (Mapping, list, tuple)):
        raise ValueError(f"the column holds maps, and this is {type_name(value)}; make it a dict")
    pairs = list(made.items()) if isinstance(made, Mapping) else list(made)
    keys = _fit([key for key, _ in pairs], kind.key_type)
    return list(zip(keys, _fit([item for _, item in pairs], kind.item_type), strict=True))


def _struct(kind: pa.DataType, value: Any) -> Any:
    made = plain(value)
    if made is None:
        return None
    if not isinstance(made, Mapping):
        raise ValueError(f"the column holds records, and this is {type_name(value)}; make it a dict")
    fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
    extra = next((name for name in made if name not in fields), None)
    if extra is not None:
        raise ValueError(f"it has a field {extra!r} that the column lacks ({', '.join(fields)})")
    return {name: _fit([made.get(name)], inner)[0] for name, inner in fields.items()}
