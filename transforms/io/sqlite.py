"""Rows into a SQLite table, upserted by key or added exactly once."""

import contextlib
import datetime
import decimal
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sage.errors import ConfigError
from sage.transforms.io.rows import TableSink
from sage.transforms.io.scalars import misfit, plain
from sage.transforms.io.tables import LEDGER_COLUMNS, STAGED_COLUMNS, Database, Dialect, Table

__all__ = ["WriteToSqlite"]

# SQLite lets one writer in at a time; the others wait this long (seconds) before they give up.
_LOCK_WAIT_S = 120.0
_VALUE_ERRORS = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError, OverflowError)
_ADVICE = {
    decimal.Decimal: "SQLite has no decimal numbers; write it as text, or as an integer of its smallest unit",
    uuid.UUID: "SQLite has no UUIDs; write its str or its bytes",
    datetime.timedelta: "SQLite has no durations; write its total_seconds()",
    dict: "SQLite has no such values; write it as JSON text",
    list: "SQLite has no such values; write it as JSON text",
}


class WriteToSqlite(TableSink):
    """Write mappings or NamedTuples into one table of a SQLite database.

    **With a key** rows are upserted: a key that is there is updated, one that is not is added. Up to 5,000 rows of a
    bundle are one transaction. Promise, on every runner: a repetition upserts the same keys again, so the table ends
    the same, and a row that is already equal is not touched; running a job twice leaves the file byte for byte as it
    was. Rows can be seen before their checkpoint is durable. Two input rows with one key: either may win, unless one
    worker gets both in order. Rows that an earlier run wrote and this one does not are left where they are.

    **Without a key** each row is added once. Rows are staged in a table beside and moved in one transaction with a note
    of it (see `sage.transforms.io.tables`). Promise: on SAGE's local runner exactly once, seen when the checkpoint is
    durable, or without checkpoints all at the end (of input that ends); on other runners a bundle's rows are added in
    one transaction, and a bundle that is repeated may add them twice. A job that begins anew adds to what is there.

    Input: mappings or NamedTuples with the columns of the table (a missing one is NULL; an unknown one, or
    NULL in the key, fails the step); dates and times are stored as ISO 8601 text, booleans as 0 and 1, scalars of NumPy
    and pandas as the numbers and texts that they are, NaT and ``pandas.NA`` as NULL. What SQLite has no value for, such
    as a Decimal, NaN or an integer of more than 64 bits, fails the step, with the column and the row in the message.
    Output: with a key how many rows each transaction carried (count), once it is committed; without one nothing.

    The database is a file that all workers see: workers on several machines need a shared disk with locks.

    Args:
        path: the database file; made, with its folders, where it is missing.
        table: the table; made where it is missing.
        columns: column name to SQL type, in order: ``{"id": "INTEGER", "name": "TEXT"}``.
        key: the columns that make a row unique (the table's primary key), to upsert; None to add rows.

    Raises:
        ConfigError: the path is not local, a name is not usable, or the key is not among the columns (when
            constructed); the table exists with other columns or another key (when run).
        OSError: the database is locked by another program, or cannot be opened or written to (when run).
        CheckpointError: the job goes on from an older checkpoint, and later rows were added (when run).
    """

    def __init__(self, path: str, table: str, columns: Mapping[str, str], key: Sequence[str] | None = None) -> None:
        if "://" in path:
            raise ConfigError(f"a SQLite database is a local file, not {path!r}")
        if not isinstance(columns, Mapping):
            raise ConfigError(f"table {table!r} needs its columns with their types, as {{'id': 'INTEGER'}}")
        super().__init__(_Sqlite(os.path.abspath(path)), Table.of(table, columns, key))


class _Sqlite(Database):
    """One file. A connection is opened for each transaction: it survives neither a fork nor a pickle."""

    dialect = Dialect(mark="?", differs="IS NOT", schemas=False)
    native = frozenset({int, float, str, bytes, bool, type(None)})

    def __init__(self, path: str) -> None:
        self._path = path

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._naming_errors():
            database = sqlite3.connect(self._path, timeout=_LOCK_WAIT_S, isolation_level=None)
            with contextlib.closing(database):
                cursor = database.cursor()
                # Take the write lock at once: one that reads first and writes later can deadlock with its like.
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    yield cursor
                except BaseException:
                    # A full disk rolls back by itself.
                    if database.in_transaction:
                        cursor.execute("ROLLBACK")
                    raise
                cursor.execute("COMMIT")

    def make(self, table: Table) -> None:
        sql = self.dialect
        with self._naming_errors():
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with self.transaction() as cursor:
            present = cursor.execute(f"PRAGMA table_info({sql.quoted(table.name)})").fetchall()
            if not present:
                parts = [f"{sql.quoted(name)} {kind}" for name, kind in zip(table.columns, table.types, strict=True)]
                if table.key:
                    parts.append(f"PRIMARY KEY ({sql.listed(table.key)})")
                cursor.execute(f"CREATE TABLE {sql.quoted(table.name)} ({', '.join(parts)})")
                return
        names = [column[1] for column in present]
        # The sixth field is the column's place in the primary key, from 1, or 0.
        key = [name for place, name in sorted((column[5], column[1]) for column in present) if place]
        fits = (names, key) == (list(table.columns), list(table.key)) if table.key else set(table.columns) <= set(names)
        if not fits:
            raise ConfigError(
                f"table {table.name!r} in {self._path!r} has columns {names} with key {key}; this job writes "
                f"{list(table.columns)} with key {list(table.key)}. Drop the table, or write to another one."
            )

    def make_staging(self, table: Table) -> None:
        sql = self.dialect
        with self.transaction() as cursor:
            # Columns without a type keep values as they are; the table's own types apply when rows are moved. That a
            # column takes no NULL is checked before the checkpoint, though, and not after it.
            present = cursor.execute(f"PRAGMA table_info({sql.quoted(table.name)})").fetchall()
            filled = {column[1] for column in present if column[3]}
            columns = [f"{sql.quoted(name)}{' NOT NULL' * (name in filled)}" for name in table.columns]
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {sql.table(sql.staging(table))} "
                f"({', '.join([sql.listed(STAGED_COLUMNS), *columns])}, "
                "PRIMARY KEY (sage_run, sage_batch, sage_row)) WITHOUT ROWID"
            )
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {sql.table(sql.ledger(table))} "
                f"({sql.listed(LEDGER_COLUMNS)}, PRIMARY KEY (run))"
            )

    def row(self, table: Table, record: Any) -> tuple[Any, ...]:
        row = super().row(table, record)
        for value in row:
            if value != value:  # SQLite stores NaN as NULL
                column = table.columns[[one != one for one in row].index(True)]
                raise misfit(f"table {table.name!r}", column, value, "SQLite has no NaN; write None or a str", record)
        return row

    def storable(self, value: Any) -> Any:
        value = plain(value)
        if value.__class__ in self.native:
            return value
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        raise ValueError(_ADVICE.get(type(value), "make it a number, text or bytes"))

    def unstorable(self, value: Any) -> str:
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return "SQLite's integers have 64 bits; write it as text"
        return super().unstorable(value)

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """Makes of what SQLite raises an error that names the database, the cause and what to do."""
        where = f"SQLite database {self._path!r}"
        try:
            yield
        except sqlite3.IntegrityError as error:
            again = ". Rows that may be there already want key=" if "UNIQUE" in str(error) else ""
            raise ValueError(f"{where}: a row does not fit its table: {error}{again}") from error
        except (*_VALUE_ERRORS, UnicodeEncodeError) as error:
            raise ValueError(f"{where}: a value cannot be stored: {error}. Make it a number, text or bytes") from error
        except sqlite3.DatabaseError as error:
            raise OSError(f"{where} {_cause(str(error))}") from error
        except OSError as error:
            raise OSError(f"{where} cannot be made: {error}") from error


def _cause(text: str) -> str:
    if "no such table" in text or "no such column" in text or "no column named" in text:
        return f"has changed while the job ran: {text}; start the job again, which makes a table that is missing"
    if "locked" in text:
        return f"is locked by another program (waited {_LOCK_WAIT_S:g} s); end it, and start the job again"
    if "full" in text:
        return f"cannot be written to: {text}; free some space, and start the job again"
    if "readonly" in text or "read-only" in text:
        return f"cannot be written to: {text}; change the permissions of the file and of its folder"
    if "unable to open" in text:
        return f"cannot be opened: {text}; check that its folder is there and that this user may write to it"
    if "not a database" in text or "malformed" in text:
        return f"is not a SQLite database, or is damaged: {text}; name another file"
    return f"cannot be written to: {text}"
