"""Rows into a SQLite table, upserted by key."""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from sage.errors import ConfigError

__all__ = ["WriteToSqlite"]

# How many rows one transaction holds: enough to make its fsync cheap, few enough to keep in memory.
_ROWS_PER_TRANSACTION = 5_000
# SQLite lets one writer in at a time; the others wait this long (seconds) before they give up.
_LOCK_WAIT_S = 120.0


class WriteToSqlite(beam.PTransform):
    """Upsert mappings into one table of a SQLite database: a key that is there is updated, one that is not is added.

    Input: mappings with the columns of the table (a missing one is NULL); dates and times are stored as ISO 8601
    text, booleans as 0 and 1. Output: how many rows each transaction carried (count), once it is committed.

    Promise: up to 5,000 rows of a bundle are one transaction, written whole or not at all. A retry upserts the
    same keys again, so the table ends the same, and a row that is already equal is not touched: running a job
    twice leaves the file byte for byte as it was. Two input rows with one key: either may win; make keys unique
    first. Rows that an earlier run wrote and this one does not are left where they are.

    The database is a file that all workers see: workers on several machines need a shared disk with locks.

    Args:
        path: the database file; made, with its folders, where it is missing.
        table: the table; made where it is missing.
        columns: column name to SQL type, in order: ``{"id": "INTEGER", "name": "TEXT"}``.
        key: the columns that make a row unique (the table's primary key).

    Raises:
        ConfigError: the path is not local, a name is not usable, or the key is not among the columns (when
            constructed); the table exists with other columns or another key (when run).
    """

    def __init__(self, path: str, table: str, columns: Mapping[str, str], key: Sequence[str]) -> None:
        super().__init__()
        if "://" in path:
            raise ConfigError(f"a SQLite database is a local file, not {path!r}")
        missing = [name for name in key if name not in columns]
        if missing or not key:
            raise ConfigError(
                f"the key of table {table!r} must be some of its columns ({', '.join(columns)}), not {list(key)}"
            )
        self._path = os.path.abspath(path)
        self._table = table
        self._columns = dict(columns)
        self._key = tuple(key)

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[int]:
        # The table is made once, and first, even when there are no rows: the writers wait for it as a side input.
        ready = (
            rows.pipeline
            | "Once" >> beam.Create([self._path])
            | "MakeTable" >> beam.Map(_make_table, self._table, self._columns, self._key)
        )
        return (
            rows
            | "Globally" >> beam.WindowInto(GlobalWindows())
            | "Upsert"
            >> beam.ParDo(
                _Upsert(self._path, _upsert_sql(self._table, self._columns, self._key), tuple(self._columns)),
                beam.pvalue.AsSingleton(ready),
            )
        )


class _Upsert(beam.DoFn):
    """Collects the rows of a bundle and writes them in transactions; keeps nothing between bundles."""

    def __init__(self, path: str, sql: str, columns: tuple[str, ...]) -> None:
        self._path = path
        self._sql = sql
        self._columns = columns
        self._rows: list[tuple[Any, ...]] = []

    def start_bundle(self) -> None:
        # A bundle that failed half-way may have left rows here; its retry brings them again.
        self._rows = []

    def process(self, row: dict[str, Any], _ready: str) -> Iterator[int]:
        self._rows.append(tuple(_plain(row.get(name)) for name in self._columns))
        if len(self._rows) >= _ROWS_PER_TRANSACTION:
            yield self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield GlobalWindows.windowed_value_at_end_of_window(self._flush())

    def _flush(self) -> int:
        with _transaction(self._path) as database:
            database.executemany(self._sql, self._rows)
        count = len(self._rows)
        self._rows = []
        return count


@contextlib.contextmanager
def _transaction(path: str) -> Iterator[sqlite3.Connection]:
    """A connection inside one transaction: committed at the end, rolled back when the block raises."""
    try:
        database = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise OSError(f"SQLite database {path!r} cannot be opened: {error}") from error
    with contextlib.closing(database):
        # Take the write lock at once: a transaction that reads first and writes later can deadlock with its like.
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def _make_table(path: str, table: str, columns: dict[str, str], key: tuple[str, ...]) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with _transaction(path) as database:
        present = database.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
        if not present:
            parts = [f"{_quoted(name)} {kind}" for name, kind in columns.items()]
            parts.append(f"PRIMARY KEY ({_listed(key)})")
            database.execute(f"CREATE TABLE {_quoted(table)} ({', '.join(parts)})")
            return path
    names = [column[1] for column in present]
    # The sixth field is the column's place in the primary key, from 1, or 0.
    present_key = [name for place, name in sorted((column[5], column[1]) for column in present) if place]
    if names != list(columns) or present_key != list(key):
        raise ConfigError(
            f"table {table!r} in {path!r} has columns {names} with key {present_key}; this job writes "
            f"{list(columns)} with key {list(key)}. Drop the table, or write to another one."
        )
    return path


def _upsert_sql(table: str, columns: Iterable[str], key: Sequence[str]) -> str:
    names = list(columns)
    insert = (
        f"INSERT INTO {_quoted(table)} ({_listed(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({_listed(key)}) DO "
    )
    others = [name for name in names if name not in key]
    if not others:
        return insert + "NOTHING"
    changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in others)
    # Without this, a row that is already equal would be written again, and the file would change.
    differs = " OR ".join(f"{_quoted(table)}.{_quoted(name)} IS NOT excluded.{_quoted(name)}" for name in others)
    return f"{insert}UPDATE SET {changes} WHERE {differs}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
