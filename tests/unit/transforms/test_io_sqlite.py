from __future__ import annotations

import contextlib
import datetime
import sqlite3
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteToSqlite

COLUMNS = {"id": "INTEGER", "name": "TEXT", "on": "TEXT"}


def _write(
    rows: list[dict[str, Any]], path: Path, columns: dict[str, str] = COLUMNS, key: tuple[str, ...] = ("id",)
) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(rows) | WriteToSqlite(str(path), "people", columns, key)


def _rows(path: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute('SELECT * FROM "people" ORDER BY 1').fetchall()


def test_rows_are_inserted_updated_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.sqlite"
    day = datetime.date(2024, 2, 29)
    _write([{"id": 1, "name": "Ada", "on": day}, {"id": 2, "name": "Bo"}], path)
    assert _rows(path) == [(1, "Ada", "2024-02-29"), (2, "Bo", None)]
    _write([{"id": 2, "name": "Bob"}, {"id": 3, "name": None}], path)
    assert _rows(path) == [(1, "Ada", "2024-02-29"), (2, "Bob", None), (3, None, None)]


def test_the_same_rows_again_do_not_change_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    rows = [{"id": n, "name": f"n{n}" if n % 3 else None} for n in range(6_000)]
    _write(rows, path)
    before = path.read_bytes()
    _write(rows[::-1], path)
    assert path.read_bytes() == before
    assert len(_rows(path)) == 6_000


def test_a_table_of_keys_alone_and_no_rows_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    columns = {"a": "TEXT", "b": "TEXT"}
    _write([], path, columns, ("a", "b"))
    assert _rows(path) == []
    pair = [{"a": "x", "b": "y"}]
    _write(pair, path, columns, ("a", "b"))
    _write(pair, path, columns, ("a", "b"))
    assert _rows(path) == [("x", "y")]


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with pytest.raises(Exception, match=r"[Tt]ype 'list' is not supported|type 'list'|Error binding"):
        _write([{"id": 1, "name": "Ada"}, {"id": 2, "name": []}], path)
    assert _rows(path) == []


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    _write([{"id": 1}], path)
    with pytest.raises(Exception, match="Drop the table, or write to another one"):
        _write([{"id": 1}], path, {"id": "INTEGER"})
    with pytest.raises(ConfigError, match="local file"):
        WriteToSqlite("gs://bucket/a.sqlite", "people", COLUMNS, ["id"])
    with pytest.raises(ConfigError, match="must be some of its columns"):
        WriteToSqlite(str(path), "people", COLUMNS, ["nr"])


def test_names_are_data_not_sql(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    _write([{'i"d': 1, "select": "x"}], path, {'i"d': "INTEGER", "select": "TEXT"}, ('i"d',))
    assert _rows(path) == [(1, "x")]
