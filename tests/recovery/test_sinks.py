"""Sinks in two phases are killed before every line of theirs, and go on: nothing is lost and nothing is there twice."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import psycopg
import pyarrow.parquet as pq
import pytest

import tests.models.bucket  # noqa: F401 # registers bucket://
from sage.transactions import TransactionalDoFn
from sage.transforms.io import WriteAvro, WriteJsonLines, WriteParquet, WriteText, WriteToPostgres, WriteToSqlite
from tests.models.crashes import run_and_crash
from tests.models.two_phase import Driver, sink_of

ELEMENTS = [{"id": n, "name": f"n{n}"} for n in range(7)]
AVRO = {"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}


@dataclass(frozen=True)
class Scene:
    """A place to write to, which can be made fresh again.

    Attributes:
        sink: what writes there.
        elements: what it writes.
        read: what can be seen there.
        tidy: fails if something hidden is left.
        clear: makes the place fresh.
        lines: the files whose lines are crash points.
        stride: each so-manieth of these lines is tried; each of all with ``SAGE_TEST_EVERY_LINE=1``.
    """

    sink: TransactionalDoFn
    elements: list[Any]
    read: Callable[[], list[Any]]
    tidy: Callable[[], None]
    clear: Callable[[], None]
    lines: tuple[str, ...]
    stride: int = 3

    def check(self, where: str) -> None:
        """Everything is there once, and nothing else."""
        assert sorted(self.read(), key=repr) == sorted(self.elements, key=repr), where
        self.tidy()


def _half(line: str) -> str:
    return f"half={len(line) % 2}"


def _folder(kind: str, out: Path) -> Scene:
    """A folder of parts of some kind."""
    elements: list[Any] = ELEMENTS
    read, suffix = _read_lines, ".jsonl"
    sink: beam.PTransform = WriteJsonLines(str(out), existing="refuse")
    if kind == "object store":
        sink = WriteJsonLines(f"bucket://{out}", existing="refuse")
    elif kind == "parquet":
        sink, read, suffix = WriteParquet(str(out)), _read_parquet, ".parquet"
    elif kind == "avro":
        sink, read, suffix = WriteAvro(str(out), AVRO), _read_avro, ".avro"
    elif kind == "text by destination, rolling":
        sink, read, suffix = WriteText(str(out), destination=_half, max_file_bytes=5), _read_text, ".txt"
        elements = [row["name"] * (row["id"] % 2 + 1) for row in ELEMENTS]
    return Scene(
        sink_of(sink),
        elements,
        lambda: [row for path in sorted(out.rglob(f"part-*{suffix}")) for row in read(path)],
        lambda: _nothing_hidden(out),
        lambda: shutil.rmtree(out, ignore_errors=True),
        ("transforms/io/parts.py", "transforms/io/storage.py", "models/bucket.py"),
        stride={"json lines": 3, "object store": 7}.get(kind, 11),
    )


def _nothing_hidden(folder: Path) -> None:
    # An upload that was not completed is no object; a store removes it by a rule for its age.
    hidden = [path.name for path in folder.rglob("*.tmp") if ".upload" not in path.name]
    assert not hidden


def _read_text(path: Path) -> list[Any]:
    return path.read_text().splitlines()


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _read_avro(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))


def _read_parquet(path: Path) -> list[Any]:
    return pq.read_table(path).to_pylist()


TABLE_LINES = ("transforms/io/rows.py", "transforms/io/sqlite.py", "transforms/io/postgres.py")


def _sqlite(path: Path) -> Scene:
    def rows(sql: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(path)) as database:
            return database.execute(sql).fetchall()

    def tidy() -> None:
        ((staged,),) = rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'people_sage_%'")
        assert rows(f"SELECT * FROM {staged}") == []

    return Scene(
        sink_of(WriteToSqlite(str(path), "people", {"id": "INTEGER", "name": "TEXT"})),
        ELEMENTS,
        lambda: [{"id": number, "name": name} for number, name in rows("SELECT id, name FROM people")],
        tidy,
        lambda: path.unlink(missing_ok=True),
        TABLE_LINES,
    )


def _postgres(dsn: str) -> Scene:
    connection = psycopg.connect(dsn, autocommit=True)

    def tables() -> list[str]:
        return [
            name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema")
        ]

    def tidy() -> None:
        (staged,) = [name for name in tables() if name.startswith("people_sage_")]
        assert connection.execute(f"SELECT * FROM {staged}").fetchall() == []

    def clear() -> None:
        for name in tables():
            connection.execute(f"DROP TABLE {name}")

    return Scene(
        sink_of(WriteToPostgres(dsn, "people", {"id": "integer NOT NULL", "name": "text"})),
        ELEMENTS,
        lambda: [{"id": number, "name": name} for number, name in connection.execute("SELECT id, name FROM people")],
        tidy,
        clear,
        TABLE_LINES,
        stride=7,
    )


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a disk: what counts here is the order of things, and syncs take time."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="sage-test-") as folder:
        yield Path(folder)


@pytest.fixture(
    params=["json lines", "object store", "parquet", "avro", "text by destination, rolling", "sqlite", "postgres"]
)
def scene(request: pytest.FixtureRequest, tmp_path: Path, memory: Path) -> Scene:
    """A place of each kind."""
    if request.param == "sqlite":
        return _sqlite(memory / "out.sqlite")
    if request.param == "postgres":
        return _postgres(request.getfixturevalue("postgres"))
    return _folder(request.param, memory / "out")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_before_any_line_it_writes_everything_once(scene: Scene, memory: Path) -> None:
    stride = 1 if os.environ.get("SAGE_TEST_EVERY_LINE") else scene.stride
    for line in itertools.count(step=stride):
        scene.clear()
        driver = Driver(scene.sink, memory / f"checkpoint{line}", every=4)
        died = run_and_crash(functools.partial(driver.run, scene.elements), scene.lines, line)
        driver.run(scene.elements)
        scene.check(f"killed before line {line}")
        if not died:
            break
    assert line > 50, "there were lines to be killed before"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_again_and_again_with_other_numbers_of_subtasks(scene: Scene, memory: Path) -> None:
    for seed in range(25):
        dice = random.Random(seed)
        scene.clear()
        driver = Driver(scene.sink, memory / f"checkpoint{seed}", every=2)
        for _ in range(4):
            driver.subtasks = dice.randint(1, 3)
            run_and_crash(functools.partial(driver.run, scene.elements), scene.lines, dice.randrange(700))
        driver.run(scene.elements)
        scene.check(f"seed {seed}")
