"""Equality of keys across types: one canonical form for all values that are one key.

Beam compares keys by their encoded bytes, so that ``1``, ``1.0`` and ``numpy.int64(1)`` are three keys. Joins and
deduplication compare by value, as SQL does: `canonical` maps each value to a form that has the same bytes as the form
of every value that it equals, in every process.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.coders import FastPrimitivesCoder, TupleCoder, registry
from apache_beam.utils.timestamp import Duration, Timestamp

from sage.errors import ConfigError

__all__ = ["CanonicalKey", "canonical", "has_own_coder"]

Form = Callable[[Any], Any]

_MARK = "\0"
"""Begins each form that is no plain value; a tuple of the user's that begins with it is marked itself."""
_UTC_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_LOCAL_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_ATTOS_PER_MICRO = 10**12
_ATTOS_PER_NANO = 10**9


def canonical(value: Any) -> Any:
    """Returns the form of a value as a key: equal for two values where Python's ``==`` says that they are equal.

    - Numbers are equal whatever their type: bool, int, float, complex, Decimal, Fraction, their NumPy scalars, and
      members of an IntEnum. NaN equals NaN, and -0.0 equals 0.
    - Texts equal texts (str, subclasses, ``numpy.str_``, members of a StrEnum), and bytes equal bytes (bytes,
      bytearray, memoryview, ``numpy.bytes_``).
    - Times with a zone are equal where they are one instant, and times without one where they say the same; so
      ``pandas.Timestamp`` equals ``datetime``, and ``numpy.datetime64`` equals a ``datetime`` without zone. A date
      equals only dates. Durations are equal where they are as long. NaT equals NaT of the same kind.
    - Tuples (named ones too), lists, sets, dicts, rows and dataclasses are equal where their parts are. A named tuple
      equals a tuple, as in Python; a set equals a frozenset; a dataclass equals only its own class.
    - ``pandas.NA`` is None. Members of other enums, UUIDs, paths and protobuf messages equal only their own kind.

    An object that Beam encodes by its ``__getstate__`` and ``__setstate__`` stays as it is.

    Raises:
        ConfigError: the value is of another type, such as an array or an object with an ``__eq__`` of its own.

    >>> canonical(1.0), canonical(decimal.Decimal("2.50")), canonical(True)
    (1, 2.5, 1)
    """
    cls = value.__class__
    if cls is int or cls is str or cls is bytes or value is None:
        return value
    form = _FORMS.get(cls)
    if form is None:
        form = _form_of(cls)
        if len(_FORMS) < _MOST_CLASSES:
            _FORMS[cls] = form
    return form(value)


def _float(value: float) -> Any:
    if value != value:
        return _NAN
    return int(value) if value.is_integer() else float.__float__(value)


def _ratio(above: int, below: int) -> Any:
    """The form of a fraction in lowest terms."""
    if below == 1:
        return above
    try:
        near = above / below
    except OverflowError:
        near = math.inf
    exact = math.isfinite(near) and near.as_integer_ratio() == (above, below)
    return near if exact else (_MARK, "ratio", above, below)


def _decimal(value: decimal.Decimal) -> Any:
    if value.is_nan():
        return _NAN
    return _ratio(*value.as_integer_ratio()) if value.is_finite() else float(value)


def _complex(value: complex) -> Any:
    real, imaginary = _float(value.real), _float(value.imag)
    return real if imaginary == 0 else (_MARK, "complex", real, imaginary)


def _datetime(value: datetime.datetime, attos: int = 0) -> Any:
    """The form of a time; ``attos`` is what it has beyond microseconds (attoseconds)."""
    if value.utcoffset() is None:
        return _instant("local", (value.replace(tzinfo=None) - _LOCAL_EPOCH) // _MICROSECOND, attos)
    return _instant("instant", (value - _UTC_EPOCH) // _MICROSECOND, attos)


def _instant(kind: str, micros: int, attos: int = 0) -> Any:
    return (_MARK, kind, micros, attos) if attos else (_MARK, kind, micros)


def _time(value: datetime.time) -> Any:
    offset = value.utcoffset()
    since = datetime.timedelta(
        hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
    )
    return _MARK, "time" if offset is None else "zoned time", (since - (offset or datetime.timedelta())) // _MICROSECOND


def _tuple(value: Iterable[Any]) -> Any:
    form = tuple([canonical(part) for part in value])
    return (_MARK, "tuple", form) if form and form[0] == _MARK else form


def _list(value: list[Any]) -> Any:
    return _MARK, "list", tuple([canonical(part) for part in value])


def _set(value: Iterable[Any]) -> Any:
    # Parts that are equal are one in any set; repr tells the forms apart, which Python cannot order.
    return _MARK, "set", tuple(sorted({canonical(part) for part in value}, key=repr))


def _dict(value: dict[Any, Any]) -> Any:
    return _MARK, "dict", tuple(sorted([(canonical(key), canonical(part)) for key, part in value.items()], key=repr))


def _row(value: Any) -> Any:
    return _MARK, "row", tuple((name, canonical(part)) for name, part in value._asdict().items())


def _enum(value: enum.Enum) -> Any:
    return _MARK, "enum", _name_of(type(value)), value.name


def _dataclass(value: Any) -> Any:
    compared = [field.name for field in dataclasses.fields(value) if field.compare]
    return _MARK, "dataclass", _name_of(type(value)), tuple(canonical(getattr(value, name)) for name in compared)


def _message(value: Any) -> Any:
    return _MARK, "message", value.DESCRIPTOR.full_name, value.SerializeToString(deterministic=True)


def _unchanged(value: Any) -> Any:
    return value


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _bytes(value: Any) -> bytes:
    return memoryview(value).tobytes()


def _memoryview(value: memoryview) -> bytes:
    if value.format != "B":
        raise ConfigError(f"a memoryview of format {value.format!r} cannot be a key: take its tobytes()")
    return value.tobytes()


def _path(value: pathlib.PurePath) -> Any:
    if isinstance(value, pathlib.PureWindowsPath):
        return _MARK, "path", "windows", str(value).lower()
    return _MARK, "path", "posix", str(value)


def _pandas_timestamp(value: Any) -> Any:
    return _datetime(value.to_pydatetime(warn=False), value.nanosecond * _ATTOS_PER_NANO)


def _pandas_timedelta(value: Any) -> Any:
    micros, nanos = divmod(value.as_unit("ns").value, 1000)
    return _instant("span", micros, nanos * _ATTOS_PER_NANO)


def _numpy() -> Any:
    """NumPy, which need not be installed: where there is a value of one of its classes, it is loaded."""
    return sys.modules["numpy"]


def _numpy_time(kind: str) -> Form:
    """The form of NumPy's times and durations, of whatever unit."""
    letter = "M8" if kind == "local" else "m8"

    def form(value: Any) -> Any:
        numpy = _numpy()
        if numpy.isnat(value):
            return _MARK, "nat", kind
        unit, _ = numpy.datetime_data(value.dtype)
        if unit == "generic" or (kind == "span" and unit in "YM"):
            raise ConfigError(f"{value!r} cannot be a key: its unit is of no fixed length")
        micros = value.astype(f"{letter}[us]")
        rest = value - micros
        if abs(rest) >= numpy.timedelta64(1, "us"):
            if unit not in ("ns", "ps", "fs", "as"):
                raise ConfigError(f"{value!r} cannot be a key: it is out of the range of microseconds")
            micros, rest = micros - numpy.timedelta64(1, "us"), rest + numpy.timedelta64(1, "us")
        return _instant(kind, int(micros.astype("int64")), int(rest.astype("m8[as]").astype("int64")))

    return form


def _numpy_scalar(value: Any) -> Any:
    plain = value.item()
    if plain.__class__ is not value.__class__:
        return canonical(plain)
    # The long kinds have no equal in Python.
    if value.dtype.kind == "c":
        real, imaginary = canonical(value.real), canonical(value.imag)
        return real if imaginary == 0 else (_MARK, "complex", real, imaginary)
    if value != value:
        return _NAN
    try:
        return _ratio(*value.as_integer_ratio())
    except OverflowError:
        return float(value)


def _form_of(cls: type) -> Form:
    """What makes the form of values of a class that came for the first time.

    Raises:
        ConfigError: there is none.
    """
    package = cls.__module__.partition(".")[0]
    if package == "numpy":
        form = _of_numpy(cls)
        if form is not None:
            return form
    if package == "pandas":
        found = _OF_PANDAS.get(cls.__name__)
        if found is not None:
            return found
    if issubclass(cls, enum.Enum) and cls.__eq__ is object.__eq__:
        return _enum
    if dataclasses.is_dataclass(cls):
        return _dataclass
    if hasattr(cls, "SerializeToString") and hasattr(cls, "DESCRIPTOR"):
        return _message
    # A subclass that leaves equality as it is equals what its base class equals.
    for base in cls.__mro__:
        form = _BASES.get(base)
        if form is not None:
            return form
        if "__eq__" in vars(base):
            break
    if "__getstate__" in vars(cls) and "__setstate__" in vars(cls):
        return _unchanged
    raise ConfigError(
        f"a value of type {_name_of(cls)} cannot be a key: its equality is not known. "
        "Make a text, a number or a tuple of it in the step before, and use that as the key"
    )


def _of_numpy(cls: type) -> Form | None:
    numpy = _numpy()
    if issubclass(cls, numpy.datetime64):
        return _numpy_time("local")
    if issubclass(cls, numpy.timedelta64):
        return _numpy_time("span")
    return _numpy_scalar if issubclass(cls, numpy.generic) and not issubclass(cls, numpy.void) else None


_NAN = (_MARK, "nan")
_MOST_CLASSES = 10_000  # a job that makes classes without end does not fill the memory with them
_BASES: dict[type, Form] = {
    bool: int,
    int: int.__int__,
    float: _float,
    complex: _complex,
    decimal.Decimal: _decimal,
    fractions.Fraction: lambda value: _ratio(value.numerator, value.denominator),
    str: str.__str__,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _memoryview,
    datetime.datetime: _datetime,
    datetime.date: lambda value: (_MARK, "date", value.toordinal()),
    datetime.time: _time,
    datetime.timedelta: lambda value: (_MARK, "span", value // _MICROSECOND),
    uuid.UUID: lambda value: (_MARK, "uuid", value.bytes),
    tuple: _tuple,
    list: _list,
    set: _set,
    frozenset: _set,
    dict: _dict,
    pathlib.PurePath: _path,
    beam.Row: _row,
    Timestamp: lambda value: (_MARK, "instant", value.micros),
    Duration: lambda value: (_MARK, "span", value.micros),
}
_OF_PANDAS: dict[str, Form] = {
    "Timestamp": _pandas_timestamp,
    "Timedelta": _pandas_timedelta,
    "NaTType": lambda _: (_MARK, "nat", "local"),
    "NAType": lambda _: None,
}
_FORMS: dict[type, Form] = {cls: form for cls, form in _BASES.items() if cls is not pathlib.PurePath}


class CanonicalKey:
    """The type of canonical keys in type hints; its coder gives the same bytes for a key in every process."""

    @staticmethod
    def from_type_hint(_hint: Any, _registry: Any) -> Any:
        """Returns the coder of these keys."""
        return FastPrimitivesCoder().as_deterministic_coder("a comparison by value")


registry.register_coder(CanonicalKey, CanonicalKey)


def has_own_coder(key_type: Any) -> bool:
    """Returns whether keys of a declared type have a coder of the user's, whose bytes then decide which are equal."""
    if key_type in (typehints.Any, Any):
        return False
    return _is_own(registry.get_coder(key_type))


def _is_own(coder: Any) -> bool:
    parts = coder.coders() if isinstance(coder, TupleCoder) else ()
    return not type(coder).__module__.startswith("apache_beam.") or any(map(_is_own, parts))
