"""Raw records into typed ones: a schema of columns, and what happens to records that do not fit it."""

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from sage.checks import check_types
from sage.errors import ConfigError
from sage.transforms.dead_letter import DEAD, GOOD, Located, ReadResult

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Clean", "Column", "KeepFirst", "TableSchema", "key_text"]


def _integer(raw: Any) -> int:
    if isinstance(raw, str) and re.fullmatch(r"[+-]?\d{1,19}", raw, re.ASCII):
        raw = int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError("is not an integer")
    if not -(2**63) <= raw < 2**63:
        raise ValueError("does not fit in 64 bits")
    return raw


def _number(raw: Any) -> float:
    if isinstance(raw, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", raw, re.ASCII):
        raw = float(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("is not a number")
    try:
        value = float(raw)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _string(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("is not text")
    return raw


def _boolean(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(raw, str) and raw.lower() in truth:
        return truth[raw.lower()]
    raise ValueError("is not true or false")


def _date(raw: Any) -> datetime.date:
    # The form is checked here because Python 3.11 accepts more forms than 3.10.
    if isinstance(raw, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", raw, re.ASCII):
        try:
            return datetime.date.fromisoformat(raw)
        except ValueError:
            raise ValueError("is not a day of the calendar") from None
    raise ValueError("is not a date like 2024-02-29")


_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,6}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def _timestamp(raw: Any) -> datetime.datetime:
    match = _TIMESTAMP.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        raise ValueError("is not a time like 2024-02-29T12:30:00Z")
    day, minute, second, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    try:
        text = f"{day}T{minute}{second or ':00'}.{(fraction or '').ljust(6, '0')}{zone}"
        return datetime.datetime.fromisoformat(text).astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


# Type in a config -> (how a raw value is read, its type in SQL, its type in Arrow).
_TYPES: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "integer": (_integer, "INTEGER", "int64"),
    "number": (_number, "REAL", "float64"),
    "string": (_string, "TEXT", "string"),
    "boolean": (_boolean, "INTEGER", "bool_"),
    "date": (_date, "TEXT", "date32"),
    "timestamp": (_timestamp, "TEXT", "timestamp"),
}


@dataclass(frozen=True)
class Column:
    """What one column must hold.

    Attributes:
        name: the column.
        type: ``integer`` (64 bits), ``number`` (finite), ``string``, ``boolean``, ``date`` (``2024-02-29``) or
            ``timestamp`` (ISO 8601; without a zone it is UTC).
        required: whether a record without it is refused. A blank text counts as missing.
        min: the least value allowed, if any (for ``string``, the least length in characters).
        max: the greatest value allowed, if any (for ``string``, the greatest length in characters).
        choices: the only values allowed, if any.
    """

    name: str
    type: str = "string"
    required: bool = False
    min: Any = None
    max: Any = None
    choices: tuple[Any, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> "Column":
        """A column from a dict with this class's attributes as keys; ``where`` is for messages.

        Raises:
            ConfigError: a key or the type is unknown, the name is missing, or a limit is not of the type.
        """
        known = [field.name for field in fields(cls)]
        for key in config:
            if key not in known:
                raise ConfigError(f"{where}: unknown key {key!r}; a column has {', '.join(known)}")
        name, kind = config.get("name"), config.get("type", "string")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{where}: a column needs a name")
        if kind not in _TYPES:
            raise ConfigError(f"{where}: column {name!r} has type {kind!r}; types are {', '.join(_TYPES)}")
        hints = {"required": bool, "choices": list | tuple}
        given = {key: (config[key], hint) for key, hint in hints.items() if key in config}
        check_types(f"{where}: column {name!r}", "config", given)
        read = _TYPES[kind][0]

        def limit(key: str, value: Any) -> Any:
            try:
                return _integer(value) if kind == "string" and key != "choices" else read(value)
            except ValueError as error:
                raise ConfigError(f"{where}: {key} of column {name!r}: {value!r} {error}") from None

        return cls(
            name=name,
            type=kind,
            required=bool(config.get("required", False)),
            min=None if config.get("min") is None else limit("min", config["min"]),
            max=None if config.get("max") is None else limit("max", config["max"]),
            choices=tuple(limit("choices", value) for value in config.get("choices", ())),
        )

    def read(self, raw: Any) -> Any:
        """The typed value, or None where it is missing and may be.

        Raises:
            ValueError: the value does not fit; the message names the column and says why.
        """
        if isinstance(raw, str):
            raw = raw.strip()
        if raw is None or raw == "":
            if self.required:
                raise ValueError(f"{self.name} is missing")
            return None
        try:
            value = _TYPES[self.type][0](raw)
        except ValueError as error:
            raise ValueError(f"{self.name}: {raw!r} {error}") from None
        size, unit = (len(value), " characters") if self.type == "string" else (value, "")
        if self.min is not None and size < self.min:
            raise ValueError(f"{self.name}: {raw!r} is below the least, {self.min}{unit}")
        if self.max is not None and size > self.max:
            raise ValueError(f"{self.name}: {raw!r} is above the greatest, {self.max}{unit}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name}: {raw!r} is none of {', '.join(map(str, self.choices))}")
        return value


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order, and the key that makes a row unique."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> "TableSchema":
        """A schema from ``{"columns": [...], "key": [...]}``.

        Raises:
            ConfigError: a column is wrong or there twice, or the key is not made of required columns.
        """
        hints = {"columns": list[dict[str, Any]] | tuple[Any, ...], "key": list[str] | tuple[str, ...]}
        check_types(where, "config", {key: (config[key], hint) for key, hint in hints.items() if key in config})
        columns = tuple(Column.from_config(column, where) for column in config.get("columns", ()))
        names = [column.name for column in columns]
        if not columns or len(set(names)) != len(names):
            raise ConfigError(f"{where}: it needs columns, each with a name of its own")
        required = {column.name for column in columns if column.required}
        key = tuple(config.get("key", ()))
        if not key or not set(key) <= required:
            raise ConfigError(f"{where}: key {list(key)} must name one or more required columns")
        return cls(columns, key)

    def read(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The typed columns of a record; columns that are not in the schema are left out.

        Raises:
            ValueError: the record does not fit; the message holds everything that is wrong with it.
        """
        typed: dict[str, Any] = {}
        wrong = []
        for column in self.columns:
            try:
                typed[column.name] = column.read(record.get(column.name))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("; ".join(wrong))
        return typed

    def sql_columns(self) -> dict[str, str]:
        """Column name to SQL type, as `WriteToSqlite` takes it."""
        return {column.name: _TYPES[column.type][1] for column in self.columns}

    def arrow_schema(self) -> "pa.Schema":
        """The same columns for Arrow and Parquet; times are microseconds in UTC."""
        import pyarrow as pa

        def arrow(kind: str) -> Any:
            name = _TYPES[kind][2]
            return pa.timestamp("us", "UTC") if name == "timestamp" else getattr(pa, name)()

        return pa.schema([(column.name, arrow(column.type)) for column in self.columns])


class Clean(beam.PTransform):
    """Read raw records by a schema.

    Input: `Located` records. Output: a `ReadResult`: ``good`` holds `Located` records with typed values, ``dead``
    a `DeadLetter` for each record that does not fit, with all its faults in one reason.
    """

    def __init__(self, schema: TableSchema) -> None:
        super().__init__()
        self._schema = schema

    def expand(self, records: beam.PCollection[Any]) -> "ReadResult":
        outputs = records | "Read" >> beam.ParDo(_Clean(self._schema)).with_outputs(DEAD, main=GOOD)
        return ReadResult(outputs[GOOD], outputs[DEAD])


class _Clean(beam.DoFn):
    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema

    def process(self, record: Located) -> Iterator[Any]:
        try:
            yield record._replace(value=self._schema.read(record.value))
        except ValueError as error:
            yield beam.pvalue.TaggedOutput(DEAD, record.refuse("Clean", str(error)))


class KeepFirst(beam.PTransform):
    """Make records unique by key: the first by file and line stays, whatever order the workers read them in.

    Input: `Located` records. Output: a `ReadResult`: ``good`` has one record for each key, ``dead`` the others, each
    with the place of the one that was kept.

    Args:
        key: the columns that make a record unique.
    """

    def __init__(self, key: Iterable[str]) -> None:
        super().__init__()
        self._key = tuple(key)

    def expand(self, records: beam.PCollection[Any]) -> "ReadResult":
        outputs = (
            records
            | "ByKey" >> beam.Map(_keyed, self._key).with_output_types(tuple[str, Any])
            | "Group" >> beam.GroupByKey()
            | "First" >> beam.ParDo(_KeepFirst(self._key)).with_outputs(DEAD, main=GOOD)
        )
        return ReadResult(outputs[GOOD], outputs[DEAD])


class _KeepFirst(beam.DoFn):
    def __init__(self, key: tuple[str, ...]) -> None:
        self._key = key

    def process(self, group: tuple[str, Any]) -> Iterator[Any]:
        records = sorted(group[1], key=lambda record: (record.source, record.line))
        first = records[0]
        yield first
        what = ", ".join(f"{name}={first.value[name]}" for name in self._key)
        for record in records[1:]:
            reason = f"{what} is already in {first.source}:{first.line}"
            yield beam.pvalue.TaggedOutput(DEAD, record.refuse("KeepFirst", reason))


def _keyed(record: Located, key: tuple[str, ...]) -> tuple[str, Located]:
    return key_text(record.value, key), record


def key_text(value: Mapping[str, Any], key: Iterable[str]) -> str:
    """The key columns of a record as one text: a key that every Beam version encodes alike, dates included."""
    return json.dumps([value[name] for name in key], default=str)
