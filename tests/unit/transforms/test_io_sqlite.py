from __future__ import annotations

import contextlib
import datetime
import logging
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest

from sage.errors import CheckpointError, ConfigError, DataLoss
from sage.runners.local import LocalRunner
from sage.transactions import TransactionalDoFn
from sage.transforms.io import WriteToSqlite, sqlite
from tests.models.two_phase import Checkpoint, Driver, sink_of

COLUMNS = {"id": "INTEGER", "name": "TEXT", "on": "TEXT"}


class Person(NamedTuple):
    id: int
    name: str


def _write(
    rows: list[dict[str, Any]], path: Path, columns: dict[str, str] = COLUMNS, key: tuple[str, ...] | None = ("id",)
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
    with pytest.raises(Exception, match=r"column 'name' cannot store list.*The row: .'id': 2"):
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


def _add(rows: list[Any], path: Path, columns: dict[str, str] = COLUMNS) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(rows) | WriteToSqlite(str(path), "people", columns)


def _adding(path: Path) -> TransactionalDoFn:
    return sink_of(WriteToSqlite(str(path), "people", COLUMNS))


def test_without_a_key_each_row_is_added(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    rows = [{"id": n, "on": datetime.date(2024, 2, 29)} for n in range(6_000)]
    _add(rows, path)
    _add([Person(1, "Ada")], path)
    assert len(_rows(path)) == 6_001
    assert _rows(path)[1:3] == [(1, None, "2024-02-29"), (1, "Ada", None)]


def test_rows_are_seen_when_their_checkpoint_is_durable(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    driver = Driver(_adding(path), tmp_path / "checkpoint", every=2, subtasks=2)
    rows = [{"id": n} for n in range(5)]
    driver.run(rows, until=3)
    one, two = driver.start(driver.load())
    one.process(rows[4])
    two.process(rows[3])
    handles = [one.prepare(9), two.prepare(9)]
    assert [row[0] for row in _rows(path)] == [0, 1, 2]
    for _ in range(2):
        one.commit(handles[0])
    assert [row[0] for row in _rows(path)] == [0, 1, 2, 4]
    two.commit(handles[1])
    assert [row[0] for row in _rows(path)] == [0, 1, 2, 3, 4]


def test_staged_rows_that_are_gone_are_a_loss(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    (sink,) = Driver(_adding(path), tmp_path / "checkpoint").start(Checkpoint())
    for number in range(3):
        sink.process({"id": number})
    handle = sink.prepare(1)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        ((staged,),) = database.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'people_sage_%' AND type = 'table'"
        )
        database.execute(f"DELETE FROM {staged} WHERE id = 1")
    with pytest.raises(DataLoss, match=r"of 3 rows for table 'people' that the checkpoint holds .epoch 1., 2 are in"):
        sink.commit(handle)
    assert _rows(path) == []


def test_going_on_from_an_older_checkpoint_would_add_rows_twice(tmp_path: Path) -> None:
    driver = Driver(_adding(tmp_path / "a.sqlite"), tmp_path / "checkpoint", every=1)
    rows = [{"id": n} for n in range(3)]
    driver.run(rows, until=1)
    older = (tmp_path / "checkpoint").read_bytes()
    driver.run(rows)
    (tmp_path / "checkpoint").write_bytes(older)
    with pytest.raises(
        CheckpointError, match="'people' has rows of epochs up to 3, and the job is to go on from epoch 1"
    ):
        driver.run(rows)
    # A job that begins anew, under the same name, is another matter: it counts its epochs from 1 too.
    (tmp_path / "checkpoint").unlink()
    driver.run(rows)
    driver.run([*rows, {"id": 3}])
    assert [row[0] for row in _rows(tmp_path / "a.sqlite")] == [0, 0, 1, 1, 2, 2, 3]


def test_on_a_runner_that_knows_no_checkpoints_each_bundle_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    sink = _adding(path)
    sink.setup()
    sink.start_bundle()
    sink.process({"id": 1})
    sink.finish_bundle()
    sink.start_bundle()
    sink.process({"id": 2})
    sink.teardown()
    assert [row[0] for row in _rows(path)] == [1]


@pytest.mark.parametrize("key", [None, ("id",)])
def test_a_column_that_is_not_written_is_named(tmp_path: Path, key: tuple[str, ...] | None) -> None:
    with pytest.raises(Exception, match=r"a row has a column 'nmae', and table 'people'.*did you mean 'name'.*'Ada'"):
        _write([{"id": 1, "nmae": "Ada"}], tmp_path / "a.sqlite", key=key)


@pytest.mark.parametrize("row", [{"id": None, "name": "Ada"}, {"name": "Ada"}])
def test_a_row_without_a_key_is_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no 'id', which is in the key of table 'people'. The row: .*Ada"):
        _write([row], tmp_path / "a.sqlite")


def test_rows_that_the_table_forbids_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute('CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, "on" TEXT, more TEXT)')
    _add([{"id": 1, "name": "Ada"}], path)
    with pytest.raises(Exception, match=r"UNIQUE constraint failed: people\.id\. .*key= .the rows wait in table"):
        _add([{"id": 1}], path)
    assert _rows(path) == [(1, "Ada", None, None)]


def test_a_database_that_others_hold_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"
    _add([], path)
    monkeypatch.setattr(sqlite, "_LOCK_WAIT_S", 0.01)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match=r"is locked by another program .waited 0.01 s.; end it"):
            Driver(_adding(path), tmp_path / "checkpoint").start(Checkpoint())


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_text("name,age\n" * 1_000)
    with pytest.raises(Exception, match="is not a SQLite database, or is damaged"):
        _write([{"id": 1}], path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match=r"cannot be made: .*file"):
        _write([{"id": 1}], tmp_path / "file" / "a.sqlite")


@pytest.mark.parametrize(
    ("columns", "key", "why"),
    [
        ({}, None, "needs the names of its columns"),
        (["id"], None, "needs its columns with their types"),
        (COLUMNS, "id", "must be some of its columns .*, not 'id'"),
        (COLUMNS, [], "leave it out to add rows"),
    ],
)
def test_descriptions_that_cannot_be(columns: Any, key: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        WriteToSqlite("a.sqlite", "people", columns, key)


def test_what_no_checkpoint_holds_is_unstaged(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    driver = Driver(_adding(path), tmp_path / "checkpoint")
    (crashed,) = driver.start(Checkpoint())
    crashed.process({"id": 1})
    held = crashed.prepare(1)
    crashed.process({"id": 2})
    crashed.prepare(2)
    (other,) = Driver(_adding(path), tmp_path / "other", step="Other").start(Checkpoint())
    other.process({"id": 3})
    of_other = other.prepare(1)
    driver.start(Checkpoint(1, 1, {0: [held]}))
    assert [row[0] for row in _rows(path)] == [1]
    with contextlib.closing(sqlite3.connect(path)) as database:
        ((staged,),) = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'people_sage_%'"
        )
        assert database.execute(f"SELECT id, sage_step FROM {staged}").fetchall() == [(3, "Other")]
    other.commit(of_other)
    assert [row[0] for row in _rows(path)] == [1, 3]


def test_a_job_that_begins_anew_is_told_of_the_rows_it_adds_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.sqlite"
    told = "table 'people' has rows of an earlier run of this job"
    with caplog.at_level(logging.INFO, "sage.transforms.io.rows"):
        _write([{"id": 1, "name": "Ada"}], path, key=None)
        assert told not in caplog.text
        _write([{"id": 1, "name": "Ada"}], path, key=None)
    assert caplog.text.count(told) == 1
    assert len(_rows(path)) == 2
