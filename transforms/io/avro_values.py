"""Values of the types of Avro that are no records and no unions: each as an equal one of its type, or refused."""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sage.errors import ConfigError
from sage.transforms.io.scalars import SURROGATE, plain

__all__ = ["INT_RANGE", "PRIMITIVES", "Fit", "Unfit", "fit_array", "fit_enum", "fit_fixed", "fit_logical", "fit_map"]

Fit = Callable[[Any], Any]
"""Returns the value that fastavro writes unchanged for a value of its type; raises `Unfit`."""

INT_RANGE = (-(1 << 31), (1 << 31) - 1)
_LONG_RANGE = (-(1 << 63), (1 << 63) - 1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Unfit(Exception):
    """A value that its type cannot store.

    Attributes:
        kind: the type.
        path: where in the record the value is, as ``a.b[2]``.
    """

    def __init__(self, kind: str, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.value = value
        self.path = ""

    def inside(self, place: str) -> Unfit:
        """Returns this, with a place that the path begins with."""
        self.path = place + ("." if self.path and not self.path.startswith("[") else "") + self.path
        return self


def _scalar(kind: str, value: Any) -> Any:
    try:
        return plain(value)
    except ValueError as error:
        raise Unfit(kind, value, str(error)) from None


def _whole(kind: str, bounds: tuple[int, int]) -> Fit:
    def fit(value: Any) -> int:
        made = _scalar(kind, value)
        if isinstance(made, (float, Decimal)) and math.isfinite(made) and made == int(made):
            made = int(made)
        if not isinstance(made, int) or isinstance(made, bool):
            raise Unfit(kind, value, "make it a whole number")
        if not bounds[0] <= made <= bounds[1]:
            raise Unfit(kind, value, "it is out of the type's range; make the type " + _WIDER[kind])
        return made

    return fit


_WIDER = {"int": "long", "long": "a decimal or a string"}


def _real(kind: str) -> Fit:
    def fit(value: Any) -> float:
        made = _scalar(kind, value)
        if isinstance(made, bool) or not isinstance(made, (int, float)):
            raise Unfit(kind, value, "make it a number")
        try:
            number = float(made)
            stored = struct.unpack("<f", struct.pack("<f", number))[0] if kind == "float" else number
        except OverflowError:
            raise Unfit(kind, value, "it is too large for the type") from None
        if isinstance(made, int) and stored != made:
            raise Unfit(kind, value, "it has more digits than the type; make the type long, or a decimal")
        return number

    return fit


def _exactly(kind: str, cls: type, advice: str) -> Fit:
    def fit(value: Any) -> Any:
        made = _scalar(kind, value)
        if not isinstance(made, cls):
            raise Unfit(kind, value, advice)
        return made

    return fit


def _string(value: Any) -> str:
    made = _scalar("string", value)
    if not isinstance(made, str):
        raise Unfit("string", value, "make it a str")
    try:
        made.encode()
    except UnicodeEncodeError:
        raise Unfit("string", value, SURROGATE) from None
    return made


PRIMITIVES: dict[Any, Fit] = {
    "null": _exactly("null", type(None), "make it None"),
    "boolean": _exactly("boolean", bool, "make it True or False"),
    "int": _whole("int", INT_RANGE),
    "long": _whole("long", _LONG_RANGE),
    "float": _real("float"),
    "double": _real("double"),
    "string": _string,
    "bytes": _exactly("bytes", bytes, "make it bytes"),
}


def fit_array(fit_item: Fit) -> Fit:
    """Returns what makes the value of an array."""

    def fit(value: Any) -> list[Any]:
        if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "ndim", False):
            value = list(value)
        if not isinstance(value, (list, tuple)):
            raise Unfit("array", value, "make it a list")
        made = []
        for place, item in enumerate(value):
            try:
                made.append(fit_item(item))
            except Unfit as error:
                raise error.inside(f"[{place}]") from None
        return made

    return fit


def fit_map(fit_value: Fit) -> Fit:
    """Returns what makes the value of a map."""

    def fit(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Unfit("map", value, "make it a dict")
        made = {}
        for key, item in value.items():
            try:
                made[_string(key)] = fit_value(item)
            except Unfit as error:
                raise error.inside(f"[{key!r}]") from None
        return made

    return fit


def fit_enum(schema: Any) -> Fit:
    """Returns what checks the symbol of an enum."""
    kind, symbols = f"enum {schema['name']}", schema["symbols"]
    if not symbols:
        raise ConfigError(f"{kind} of the Avro schema has no symbols")

    def fit(value: Any) -> Any:
        made = _scalar(kind, value)
        if made not in symbols:
            raise Unfit(kind, value, f"its symbols are {', '.join(symbols)}")
        return made

    return fit


def fit_fixed(schema: Any) -> Fit:
    """Returns what checks the bytes of a fixed."""
    kind, size = f"fixed {schema['name']}", schema["size"]
    if not isinstance(size, int) or size < 0:
        raise ConfigError(f"{kind} of the Avro schema has the size {size!r}")

    def fit(value: Any) -> bytes:
        made = _scalar(kind, value)
        if not isinstance(made, bytes) or len(made) != size:
            raise Unfit(kind, value, f"make it {size} bytes")
        return made

    return fit


def fit_logical(schema: Any, base: Fit) -> Fit:
    """Returns what makes the value of a logical type that of the type below it, or takes that one as it is."""
    kind = schema.get("logicalType")
    encode = _ENCODERS.get(f"{schema['type']}-{kind}")
    if encode is None:
        return base

    def fit(value: Any) -> Any:
        made = encode(schema, value, _scalar(kind, value))
        try:
            return base(made)
        except Unfit as error:
            if made is not value:
                raise
            raise Unfit(f"{error.kind} ({kind})", value, str(error)) from None

    return fit


def _decimal(schema: Any, value: Any, made: Any) -> Any:
    kind = f"decimal({schema['precision']}, {schema.get('scale', 0)})"
    if isinstance(made, int) and not isinstance(made, bool):
        made = Decimal(made)
    if not isinstance(made, Decimal):
        if isinstance(made, bytes):
            return made
        raise Unfit(kind, value, "make it a decimal.Decimal")
    sign, digits, exponent = made.as_tuple()
    if not isinstance(exponent, int):
        raise Unfit(kind, value, "make it a finite number")
    number = int("".join(map(str, digits)))
    shift = exponent + schema.get("scale", 0)
    if shift < 0:
        number, rest = divmod(number, 10**-shift) if -shift <= len(digits) else (0, number)
        if rest:
            raise Unfit(kind, value, f"it has more than {schema.get('scale', 0)} digits behind the point; round it")
    if number and len(str(number)) + max(shift, 0) > schema["precision"]:
        raise Unfit(kind, value, f"it has more than {schema['precision']} digits")
    number *= 10 ** min(max(shift, 0), schema["precision"])
    number = -number if sign else number
    size = schema["size"] if schema["type"] == "fixed" else ((number + (number < 0)).bit_length() + 8) // 8
    try:
        return number.to_bytes(size, "big", signed=True)
    except OverflowError:
        raise Unfit(kind, value, f"it does not fit into {size} bytes") from None


def _date(schema: Any, value: Any, made: Any) -> Any:
    if isinstance(made, datetime.datetime):
        if made.tzinfo is not None or made.time() != datetime.time():
            raise Unfit("date", value, "it has a time of day or a zone; make it a date")
        made = made.date()
    return made.toordinal() - _EPOCH.toordinal() if isinstance(made, datetime.date) else made


def _timestamp(unit: int, local: bool) -> Callable[[Any, Any, Any], Any]:
    def encode(schema: Any, value: Any, made: Any) -> Any:
        if not isinstance(made, datetime.datetime):
            return made
        if local and made.tzinfo is not None:
            raise Unfit(schema["logicalType"], value, "it has a zone, and the type has none; take it off")
        if made.tzinfo is None:
            made = made.replace(tzinfo=datetime.timezone.utc)
        return _in_units(schema, value, (made - _EPOCH) // datetime.timedelta(microseconds=1), unit)

    return encode


def _time(unit: int) -> Callable[[Any, Any, Any], Any]:
    def encode(schema: Any, value: Any, made: Any) -> Any:
        if not isinstance(made, datetime.time):
            return made
        if made.tzinfo is not None:
            raise Unfit(schema["logicalType"], value, "it has a zone, and the type has none; take it off")
        micros = ((made.hour * 60 + made.minute) * 60 + made.second) * 1_000_000 + made.microsecond
        return _in_units(schema, value, micros, unit)

    return encode


def _in_units(schema: Any, value: Any, micros: int, unit: int) -> int:
    if micros % unit:
        raise Unfit(schema["logicalType"], value, "it is finer than a millisecond; round it")
    return micros // unit


def _uuid(schema: Any, value: Any, made: Any) -> Any:
    if isinstance(made, str):
        try:
            made = UUID(made)
        except ValueError:
            raise Unfit("uuid", value, "make it a UUID") from None
        if str(made) != value:
            return value
    return str(made) if isinstance(made, UUID) else made


_ENCODERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "bytes-decimal": _decimal,
    "fixed-decimal": _decimal,
    "int-date": _date,
    "long-timestamp-millis": _timestamp(1_000, local=False),
    "long-timestamp-micros": _timestamp(1, local=False),
    "long-local-timestamp-millis": _timestamp(1_000, local=True),
    "long-local-timestamp-micros": _timestamp(1, local=True),
    "int-time-millis": _time(1_000),
    "long-time-micros": _time(1),
    "string-uuid": _uuid,
}
