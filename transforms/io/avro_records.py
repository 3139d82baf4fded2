"""Records as an Avro schema has them: each value as an equal one of its type, or refused.

fastavro writes a value of another type than the schema's as what its bytes happen to be: 1.5 as the int 1, 2**40 as an
int that others cannot read, a decimal of more digits than its precision. And it takes the default of a bytes field,
text in the schema, for the value. So records are made to fit before it sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sage.errors import ConfigError
from sage.transforms.dead_letter import shorten
from sage.transforms.io.avro_values import (
    INT_RANGE,
    PRIMITIVES,
    Fit,
    Unfit,
    fit_array,
    fit_enum,
    fit_fixed,
    fit_logical,
    fit_map,
)
from sage.transforms.io.scalars import shown, type_name

__all__ = ["AvroRecords"]

_MAX_SHAPES = 1_000
# The types whose values fastavro writes unchanged, or refuses. Those of int are in range only if they are checked.
_DIRECT: dict[Any, frozenset[type]] = {
    "null": frozenset({type(None)}),
    "boolean": frozenset({bool}),
    "int": frozenset({int}),
    "long": frozenset({int}),
    "double": frozenset({float}),
    "string": frozenset({str}),
    "bytes": frozenset({bytes}),
}


class AvroRecords:
    """Makes records fit a schema.

    State: the shapes of records, names and types, that are known to need no look at their values: 1,000 at most.

    Args:
        schema: a schema that ``fastavro.parse_schema`` made.

    Raises:
        ConfigError: the schema is one that no record fits, or a default is not of its field's type.
    """

    def __init__(self, schema: Any) -> None:
        self._named: dict[str, Fit] = {}
        self._defaults: list[tuple[str, Any, Fit]] = []
        self._fit = self._compile(schema)
        for name, default, fit in self._defaults:
            try:
                fit(default)
            except Unfit as error:
                raise ConfigError(f"the default of field {name!r} is no {error.kind}: {default!r} ({error})") from None
        self._fields: Any = schema["fields"] if isinstance(schema, dict) and schema.get("type") == "record" else None
        self._shapes: dict[Any, tuple[str, ...] | None] = {}

    def fit(self, record: Any) -> Any:
        """Returns the record as fastavro writes it.

        Raises:
            ValueError: a value does not fit; the message has its column and the record.
        """
        if self._fields is not None and record.__class__ is dict:
            shape = (tuple(record), tuple(map(type, record.values())))
            ints = self._shapes.get(shape, ...)
            if ints is ...:
                ints = self._learn(shape, record)
            if ints is not None:
                for name in ints:
                    if not INT_RANGE[0] <= record[name] <= INT_RANGE[1]:
                        break
                else:
                    return record
        return self.check(record)

    def check(self, record: Any) -> Any:
        """As `fit`, with a look at each value, whatever the record's shape."""
        try:
            return self._fit(record)
        except Unfit as error:
            what = f"{type_name(error.value)} {shorten(repr(error.value), 100)}"
            place = f"column {error.path!r}" if error.path else "it"
            raise ValueError(
                f"a record does not fit the Avro schema: {place} is {error.kind}, and {what} is not ({error}). "
                f"The row: {shown(record)}"
            ) from None

    def _learn(self, shape: Any, record: dict[str, Any]) -> tuple[str, ...] | None:
        """Returns which fields of records of a shape have to be in the range of an int; None to look at all values."""
        kinds = {field["name"]: field["type"] for field in self._fields}
        known = record.keys() == kinds.keys() and all(type(record[name]) in _direct(kinds[name]) for name in kinds)
        ints = tuple([name for name in kinds if type(record[name]) is int and _is_int(kinds[name])]) if known else None
        if len(self._shapes) < _MAX_SHAPES:
            self._shapes[shape] = ints
        return ints

    # -- schemas --------------------------------------------------------------------------------------------------

    def _compile(self, schema: Any) -> Fit:
        if isinstance(schema, list):
            return self._union(schema)
        if isinstance(schema, str):
            primitive = PRIMITIVES.get(schema)
            # A named type may be inside itself, so it is looked up when there is a value.
            return primitive if primitive is not None else lambda value: self._named[schema](value)
        kind = schema["type"]
        if isinstance(kind, (dict, list)):
            return self._compile(kind)
        if kind in ("record", "error"):
            made = self._record(schema)
        elif kind == "array":
            return fit_array(self._compile(schema["items"]))
        elif kind == "map":
            return fit_map(self._compile(schema["values"]))
        elif kind == "enum":
            made = fit_enum(schema)
        elif kind == "fixed":
            made = fit_logical(schema, fit_fixed(schema))
        else:
            return fit_logical(schema, self._compile(kind))
        self._named[schema["name"]] = made
        return made

    def _record(self, schema: Any) -> Fit:
        name = schema["name"]
        fields: dict[str, tuple[Fit, Any]] = {}
        for field in schema["fields"]:
            if field["name"] in fields:
                raise ConfigError(f"record {name!r} of the Avro schema has field {field['name']!r} twice")
            fit = self._compile(field["type"])
            default: Any = ...
            if "default" in field:
                default = _from_json(field["type"], field["default"])
                self._defaults.append((field["name"], default, fit))
            elif field["type"] == "null" or (isinstance(field["type"], list) and "null" in field["type"]):
                default = None
            fields[field["name"]] = (fit, default)

        def fit_record(value: Any) -> Any:
            if hasattr(value, "_asdict"):
                value = value._asdict()
            if not isinstance(value, Mapping):
                raise Unfit(f"record {name}", value, "make it a dict or a NamedTuple")
            extra = next((key for key in value if key not in fields and key != "-type"), None)
            if extra is not None:
                raise Unfit(f"record {name}", value, f"the schema has no field {extra!r}, only {', '.join(fields)}")
            made = {"-type": value["-type"]} if "-type" in value else {}
            for key, (fit, default) in fields.items():
                given = value.get(key, default)
                if given is ...:
                    raise Unfit(f"record {name}", value, f"field {key!r} is missing, and has no default")
                try:
                    made[key] = fit(given)
                except Unfit as error:
                    raise error.inside(key) from None
            return made

        return fit_record

    def _union(self, schema: list[Any]) -> Fit:
        branches = [(_branch_name(branch), branch, self._compile(branch)) for branch in schema]
        # A float is a double where there is one: a shorter one would cut it.
        branches.sort(key=lambda branch: branch[1] == "float")
        names = {name: (kind, fit) for name, kind, fit in branches}
        several = len([kind for _, kind, _ in branches if kind != "null"]) > 1
        shown_kinds = "one of " + ", ".join(name for name, _, _ in branches)

        def fit_union(value: Any) -> Any:
            if value is None and "null" in names:
                return None
            if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and value[0] in names:
                return value[0], names[value[0]][1](value[1])
            found: list[tuple[int, str, Any, Any]] = []
            errors = []
            for name, kind, fit in branches:
                try:
                    made = fit(value)
                except Unfit as error:
                    errors.append(error)
                    continue
                if kind == "null" or not isinstance(made, dict):
                    found.append((0, name, kind, made))
                    break
                found.append((len(set(made) & set(value)), name, kind, made))
            if not found:
                if len(errors) == 1 + ("null" in names) and not several:
                    raise next(error for error in errors if error.kind != "null")
                raise Unfit(shown_kinds, value, "; ".join(dict.fromkeys(f"{error.kind}: {error}" for error in errors)))
            _, name, kind, made = max(found, key=lambda one: one[0])
            # Said which of several it is, as fastavro may take another.
            return (name, made) if several and isinstance(kind, str) and kind in PRIMITIVES and kind != "null" else made

        return fit_union


def _direct(kind: Any) -> frozenset[type]:
    """Returns the types that a field stores unchanged if its value is one of them."""
    if isinstance(kind, str):
        return _DIRECT.get(kind, frozenset())
    if isinstance(kind, list) and len(kind) == 2 and "null" in kind:
        other = kind[0] if kind[1] == "null" else kind[1]
        return _DIRECT["null"] | _direct(other) if isinstance(other, str) else frozenset()
    return frozenset()


def _is_int(kind: Any) -> bool:
    return kind == "int" or (isinstance(kind, list) and "int" in kind)


def _branch_name(branch: Any) -> str:
    if isinstance(branch, dict):
        return str(branch.get("name") or branch["type"])
    return str(branch)


def _from_json(schema: Any, default: Any) -> Any:
    """Returns the value of a default: that of bytes is text in the schema, a character for each byte."""
    if isinstance(schema, list):
        return _from_json(schema[0], default)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, (dict, list)):
        return _from_json(kind, default)
    if kind in ("bytes", "fixed") and isinstance(default, str):
        try:
            return default.encode("latin-1")
        except UnicodeEncodeError:
            return default
    if kind == "array" and isinstance(default, list):
        return [_from_json(schema["items"], item) for item in default]
    if kind == "map" and isinstance(default, dict):
        return {key: _from_json(schema["values"], item) for key, item in default.items()}
    if kind == "record" and isinstance(default, dict):
        kinds = {field["name"]: field["type"] for field in schema["fields"]}
        return {key: _from_json(kinds[key], item) if key in kinds else item for key, item in default.items()}
    return default
