"""Database tables as ends of a job: what SQLite and PostgreSQL have in common.

There are two ways to write rows. With a key they are *upserted*, bundle by bundle: writing a row again changes nothing,
so a repetition does no harm. Without one they are *added*, and a row must not be added twice: they are staged in a
table beside, and moved when the checkpoint that holds them is durable, in the same transaction as a note in a ledger:

- ``<table>_sage_<hash>`` has the rows that are staged, by run, batch and row;
- ``sage_commits`` has, for each run of a subtask, the last batch that was moved.

PostgreSQL could keep the transaction itself open from the barrier to the commit (``PREPARE TRANSACTION``). That needs
``max_prepared_transactions``, which is 0 unless an administrator says otherwise, and a transaction that nobody ends
holds its locks, and vacuum, for ever. Staged rows are plain rows: any server has them, and anybody can look at them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sage.checks import suggestion
from sage.errors import ConfigError
from sage.transforms.io.scalars import PLAIN_TYPES, SURROGATE, misfit, plain, shown, type_name

__all__ = ["BATCH_ROWS", "LEDGER_COLUMNS", "STAGED_COLUMNS", "Database", "Dialect", "Table"]

# How many rows one statement carries: enough to make its cost small, few enough to keep in memory.
BATCH_ROWS = 5_000

STAGED_COLUMNS = ("sage_job", "sage_step", "sage_subtask", "sage_run", "sage_batch", "sage_row")
LEDGER_COLUMNS = ("run", "origin", "job", "step", "subtask", "batch", "epoch")


@dataclass(frozen=True)
class Table:
    """A table that rows are written to.

    Attributes:
        name: its name, in PostgreSQL with its schema where it has one.
        columns: the names of the columns that are written, in order.
        types: their SQL types, to make the table where it is missing; none if it has to be there.
        key: the columns that make a row unique; none to add rows.
    """

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...] = ()
    key: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, columns: Mapping[str, str] | Sequence[str], key: Sequence[str] | None) -> Table:
        """A table as a user describes it.

        Raises:
            ConfigError: there is no column, or the key is not some of the columns.
        """
        if isinstance(columns, str) or not columns:
            raise ConfigError(f"table {name!r} needs the names of its columns, not {columns!r}")
        names = tuple(columns)
        types = tuple(columns.values()) if isinstance(columns, Mapping) else ()
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            raise ConfigError(f"column {twice[0]!r} of table {name!r} is there twice")
        if key is not None and (isinstance(key, str) or not key or set(key) - set(names)):
            shown = repr(key) if isinstance(key, str) else list(key)
            raise ConfigError(
                f"the key of table {name!r} must be some of its columns ({', '.join(names)}), not {shown}; "
                "leave it out to add rows"
            )
        return cls(name, names, types, tuple(key or ()))


@dataclass(frozen=True)
class Dialect:
    """How a database writes SQL, where databases differ.

    Attributes:
        mark: what stands for a parameter.
        differs: the operator that compares with NULL as a value.
        schemas: whether a dot in a table's name parts the schema from the name.
    """

    mark: str
    differs: str
    schemas: bool

    def quoted(self, name: str) -> str:
        """A name as data, whatever is in it."""
        text = '"' + name.replace('"', '""') + '"'
        return text.replace("%", "%%") if self.mark == "%s" else text

    def listed(self, names: Sequence[str]) -> str:
        """Names with commas between them."""
        return ", ".join(map(self.quoted, names))

    def split(self, name: str) -> tuple[str, str]:
        """The schema of a table's name, or nothing, and the name in it."""
        schema, _, last = name.rpartition(".") if self.schemas else ("", "", name)
        return schema, last

    def table(self, name: str) -> str:
        """A table's name, with its schema."""
        schema, last = self.split(name)
        return f"{self.quoted(schema)}.{self.quoted(last)}" if schema else self.quoted(last)

    def sibling(self, table: Table, name: str) -> str:
        """The name of another table in the same schema."""
        schema, _ = self.split(table.name)
        return f"{schema}.{name}" if schema else name

    def staging(self, table: Table) -> str:
        """The name of the table in which rows are staged: another one for other columns."""
        what = repr((table.name, table.columns, table.types))
        name = self.split(table.name)[1]
        # PostgreSQL cuts names at 63 bytes.
        return self.sibling(table, f"{name.encode()[:40].decode(errors='ignore')}_sage_{_digest(what)}")

    def ledger(self, table: Table) -> str:
        """The name of the table that says what was moved."""
        return self.sibling(table, "sage_commits")

    def insert(self, name: str, columns: Sequence[str]) -> str:
        """Adds one row."""
        return (
            f"INSERT INTO {self.table(name)} ({self.listed(columns)}) VALUES ({', '.join([self.mark] * len(columns))})"
        )

    def upsert(self, name: str, columns: Sequence[str], key: Sequence[str]) -> str:
        """Adds one row, or updates the one that has its key; a row that is already equal is not written again."""
        insert = f"{self.insert(name, columns)} ON CONFLICT ({self.listed(key)}) DO "
        others = [column for column in columns if column not in key]
        if not others:
            return insert + "NOTHING"
        mine = self.table(name)
        changes = ", ".join(f"{self.quoted(column)} = excluded.{self.quoted(column)}" for column in others)
        differs = " OR ".join(
            f"{mine}.{self.quoted(column)} {self.differs} excluded.{self.quoted(column)}" for column in others
        )
        return f"{insert}UPDATE SET {changes} WHERE {differs}"


class Database:
    """A database to write to: picklable, and opened where it is used.

    Attributes:
        dialect: how it writes SQL.
        native: the types whose values its driver takes as they are.
    """

    dialect: Dialect
    native: frozenset[type] = PLAIN_TYPES

    def row(self, table: Table, record: Any) -> tuple[Any, ...]:
        """Returns the values of a mapping or NamedTuple in the order of the table's columns, as the driver takes them.

        A missing value is None.

        Raises:
            ValueError: the record has a column that the table is not written with, none in its key, or a value that
                cannot be stored.
        """
        fields: Any = record._asdict() if hasattr(record, "_asdict") else record
        if fields.__class__ is not dict and not isinstance(fields, Mapping):
            raise ValueError(
                f"table {table.name!r} is written with mappings or NamedTuples, not {type_name(record)} {shown(record)}"
            )
        row = tuple(map(fields.get, table.columns))
        if not self.native.issuperset(map(type, row)):
            row = self._storable_row(table, fields, row)
        if len(fields) > len(row) or None in row:
            _check_columns(table, fields, row)
        return row

    def _storable_row(self, table: Table, fields: Mapping[str, Any], row: tuple[Any, ...]) -> tuple[Any, ...]:
        made = []
        for column, value in zip(table.columns, row, strict=True):
            if value.__class__ not in self.native:
                try:
                    value = self.storable(value)
                except (ValueError, TypeError) as error:
                    raise misfit(f"table {table.name!r}", column, value, error, fields) from None
            made.append(value)
        return tuple(made)

    def storable(self, value: Any) -> Any:
        """Returns the value that the driver takes for a value of a type that is not in `native`.

        Raises:
            ValueError: there is none that is equal; the message is the reason and the advice.
        """
        return plain(value)

    def unstorable(self, value: Any) -> str:
        """Returns why the driver refuses a value that `storable` made, or an empty text."""
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            return SURROGATE
        return ""

    def transaction(self) -> contextlib.AbstractContextManager[Any]:
        """A cursor in a transaction: committed at the end of the block, rolled back when the block raises.

        Raises:
            OSError: the database cannot be reached or written to.
            ConfigError: a table or column is not there.
            ValueError: a value does not fit.
        """
        raise NotImplementedError

    def make(self, table: Table) -> None:
        """Makes the table where it is missing and its types are known.

        Raises:
            ConfigError: it is missing, or there with other columns or another key.
        """
        raise NotImplementedError

    def make_staging(self, table: Table) -> None:
        """Makes the tables for rows that are staged, and for what was moved, where they are missing."""
        raise NotImplementedError

    def add(self, cursor: Any, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows to a table."""
        cursor.executemany(self.dialect.insert(name, columns), rows)

    def close(self) -> None:
        """Lets go of what is open; a database that holds nothing open has nothing to do."""


def _check_columns(table: Table, fields: Mapping[str, Any], row: tuple[Any, ...]) -> None:
    for name in fields:
        if name not in table.columns:
            near = suggestion(name, table.columns) or "."
            raise ValueError(
                f"a row has a column {name!r}, and table {table.name!r} is written with "
                f"{', '.join(table.columns)}{near} The row: {shown(fields)}"
            )
    for name in table.key:
        if row[table.columns.index(name)] is None:  # NULL equals no key: each repetition would add the row again
            raise ValueError(
                f"a row has no {name!r}, which is in the key of table {table.name!r}. The row: {shown(fields)}"
            )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
