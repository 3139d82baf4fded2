"""The configuration of the ETL job: which tables come in, what their columns must hold, how they are joined.

It is one JSON object::

    {
      "inputs": {
        "orders":    {"format": "csv",   "key": ["order_id"],    "columns": [{"name": "order_id", ...}, ...]},
        "customers": {"format": "jsonl", "key": ["customer_id"], "columns": [...]}
      },
      "join": {"left": "orders", "right": "customers", "on": ["customer_id"]},
      "table": "orders_enriched"
    }

Each row of ``left`` is joined with the row of ``right`` that has the same values in the columns ``on``, which must
be the key of ``right``. The result has the columns of ``left``, then those of ``right`` but for ``on``. A column is
described by the attributes of `sage.transforms.clean.Column`. `DEFAULT_CONFIG` is the one for the sample data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sage.errors import ConfigError
from sage.transforms.clean import TableSchema

__all__ = ["DEFAULT_CONFIG", "EtlConfig", "InputConfig", "load_config"]

_FORMATS = ("csv", "jsonl")

DEFAULT_CONFIG: dict[str, Any] = {
    "inputs": {
        "orders": {
            "format": "csv",
            "key": ["order_id"],
            "columns": [
                {"name": "order_id", "type": "integer", "required": True, "min": 1},
                {"name": "customer_id", "type": "integer", "required": True, "min": 1},
                {"name": "ordered_at", "type": "timestamp", "required": True},
                {"name": "status", "required": True, "choices": ["open", "paid", "shipped", "returned"]},
                {"name": "quantity", "type": "integer", "required": True, "min": 1, "max": 1000},
                {"name": "amount", "type": "number", "required": True, "min": 0},
                {"name": "note", "max": 200},
            ],
        },
        "customers": {
            "format": "jsonl",
            "key": ["customer_id"],
            "columns": [
                {"name": "customer_id", "type": "integer", "required": True, "min": 1},
                {"name": "name", "required": True, "max": 100},
                {"name": "country", "required": True, "min": 2, "max": 2},
                {"name": "since", "type": "date"},
                {"name": "newsletter", "type": "boolean"},
            ],
        },
    },
    "join": {"left": "orders", "right": "customers", "on": ["customer_id"]},
    "table": "orders_enriched",
}
"""Orders with their customers, as ``sage.jobs.etl.sample`` writes them."""


@dataclass(frozen=True)
class InputConfig:
    """One table that comes in: its name, the format of its files (``csv`` or ``jsonl``) and its schema."""

    name: str
    format: str
    schema: TableSchema


@dataclass(frozen=True)
class EtlConfig:
    """A checked configuration.

    Attributes:
        left: the table whose rows are enriched.
        right: the table that they are looked up in.
        on: the columns that both have, the key of ``right``.
        table: the name of the result.
        result: the schema of the result; its key is the key of ``left``.
    """

    left: InputConfig
    right: InputConfig
    on: tuple[str, ...]
    table: str
    result: TableSchema

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], where: str) -> EtlConfig:
        """Check a configuration; ``where`` says in messages where it comes from.

        Raises:
            ConfigError: something in it is missing, unknown or does not fit together; the message names it.
        """
        _only_keys(config, ("inputs", "join", "table"), where)
        inputs = {
            name: _input(name, table, f"{where}: input {name!r}")
            for name, table in _part(config, "inputs", dict, where).items()
        }
        join = _part(config, "join", dict, where)
        _only_keys(join, ("left", "right", "on"), f"{where}: join")
        sides = [inputs.get(str(join.get(side))) for side in ("left", "right")]
        left, right = sides
        if left is None or right is None or set(inputs) != {left.name, right.name}:
            raise ConfigError(f"{where}: join needs 'left' and 'right', the two inputs ({', '.join(inputs)})")
        table = _part(config, "table", str, where)
        if not re.fullmatch(r"[A-Za-z_]\w*", table, re.ASCII):
            raise ConfigError(f"{where}: table {table!r} must be a name of letters, digits and underscores")
        on = tuple(_part(join, "on", list, f"{where}: join"))
        return cls(left, right, on, table, _result(left, right, on, where))


def load_config(path: str | None) -> EtlConfig:
    """The configuration in a JSON file, or the one for the sample data when no file is named.

    Raises:
        ConfigError: the file cannot be read, is not JSON, or is not a configuration.
    """
    if path is None:
        return EtlConfig.from_dict(DEFAULT_CONFIG, "the default configuration")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as error:
        raise ConfigError(f"--config {path!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config {path!r} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"--config {path!r} must hold a JSON object")
    return EtlConfig.from_dict(config, path)


def _input(name: str, table: Any, where: str) -> InputConfig:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: it must be an object with format, key and columns")
    _only_keys(table, ("format", "key", "columns"), where)
    if table.get("format") not in _FORMATS:
        raise ConfigError(f"{where}: format {table.get('format')!r} is none of {', '.join(_FORMATS)}")
    return InputConfig(name, table["format"], TableSchema.from_config(table, where))


def _result(left: InputConfig, right: InputConfig, on: tuple[str, ...], where: str) -> TableSchema:
    if set(on) != set(right.schema.key):
        key = list(right.schema.key)
        raise ConfigError(f"{where}: join on {list(on)} must be on the key of {right.name!r}, {key}")
    kinds = {column.name: column.type for column in left.schema.columns}
    for column in right.schema.columns:
        if column.name in on and kinds.get(column.name) != column.type:
            raise ConfigError(f"{where}: both inputs need column {column.name!r}, of one type")
        if column.name not in on and column.name in kinds:
            raise ConfigError(f"{where}: both inputs have a column {column.name!r}; rename one of them")
    added = tuple(column for column in right.schema.columns if column.name not in on)
    return TableSchema(left.schema.columns + added, left.schema.key)


def _only_keys(config: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in config:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")


def _part(config: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = config.get(key)
    names: dict[type, str] = {dict: "an object", list: "an array of texts", str: "a text"}
    if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(each, str) for each in value)):
        raise ConfigError(f"{where}: {key!r} must be {names[kind]}, not {value!r}")
    return value
