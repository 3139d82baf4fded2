"""What each kind of scalar is in a database: the equal value, or one error that names the column and the row."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import psycopg
import pytest
from apache_beam.utils.timestamp import Duration, Timestamp

from sage.runners.local import LocalRunner
from sage.transforms.io import WriteToPostgres, WriteToSqlite
from tests.patience import patience

UTC = datetime.timezone.utc
PLUS_2 = datetime.timezone(datetime.timedelta(hours=2))
DAY, NOON = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12)
ID = uuid.UUID(int=7)


class Level(enum.IntEnum):
    LOW = 3


class Colour(str, enum.Enum):
    RED = "red"


class Shape(enum.Enum):
    ROUND = 1


class Refused(str):
    """A part of the reason why a value is not stored."""


FINE = Refused("finer than a microsecond")
# The value, what SQLite has for it in a column without a type, and the PostgreSQL type that it fits, with its value.
VALUES: list[tuple[Any, Any, str, Any]] = [
    *[(kind(3), 3, "integer", 3) for kind in (np.int8, np.int16, np.int32, np.int64)],
    *[(kind(3), 3, "integer", 3) for kind in (np.uint8, np.uint16, np.uint32, np.uint64)],
    (np.uint64(2**64 - 1), Refused("64 bits"), "numeric", decimal.Decimal(2**64 - 1)),
    (2**63, Refused("64 bits"), "bigint", Refused("out of range")),
    (-(2**63), -(2**63), "bigint", -(2**63)),
    (2**70, Refused("64 bits"), "numeric", decimal.Decimal(2**70)),
    *[(kind(0.5), 0.5, "double precision", 0.5) for kind in (np.float16, np.float32, np.float64, np.longdouble)],
    (np.longdouble(1) / 3, Refused("more digits than a float"), "numeric", Refused("more digits than a float")),
    (float("nan"), Refused("no NaN"), "double precision", float("nan")),
    (np.float64("nan"), Refused("no NaN"), "double precision", float("nan")),
    (float("inf"), float("inf"), "double precision", float("inf")),
    (1.5, 1.5, "integer", Refused('column x: "1.5"')),
    (3.0, 3.0, "integer", 3),
    (decimal.Decimal("1.5"), Refused("no decimal numbers"), "integer", Refused('column x: "1.5"')),
    (decimal.Decimal("1.50"), Refused("no decimal numbers"), "numeric", decimal.Decimal("1.50")),
    (True, 1, "boolean", True),
    (np.bool_(True), 1, "boolean", True),
    ("a", "a", "text", "a"),
    (np.str_("a"), "a", "text", "a"),
    (Colour.RED, "red", "text", "red"),
    (Level.LOW, 3, "integer", 3),
    (Shape.ROUND, Refused("write its .value or its .name"), "text", Refused("write its .value or its .name")),
    (b"a", b"a", "bytea", b"a"),
    (np.bytes_(b"a"), b"a", "bytea", b"a"),
    (bytearray(b"a"), b"a", "bytea", b"a"),
    (memoryview(b"a"), b"a", "bytea", b"a"),
    ("a\0b", "a\0b", "text", Refused("no NUL characters")),
    ("a\ud800", Refused("half of a surrogate pair"), "text", Refused("half of a surrogate pair")),
    (np.datetime64("2024-02-29"), "2024-02-29", "date", DAY),
    (np.datetime64("2024-02-29T12", "s"), "2024-02-29T12:00:00", "timestamp", NOON),
    (np.datetime64("2024-02-29T12", "ns"), "2024-02-29T12:00:00", "timestamp", NOON),
    (np.datetime64(5, "ns"), FINE, "timestamp", FINE),
    (np.datetime64("NaT"), None, "timestamp", None),
    *[
        (np.datetime64(10**n, unit), Refused("years 1 to 9999"), "timestamp", Refused("years 1 to 9999"))
        for n, unit in ((18, "s"), (18, "us"), (10, "D"))
    ],
    (np.timedelta64(10**18, "s"), Refused("longer than"), "interval", Refused("longer than")),
    (np.timedelta64(5, "s"), Refused("total_seconds"), "interval", datetime.timedelta(seconds=5)),
    (np.timedelta64(5, "ns"), FINE, "interval", FINE),
    (np.timedelta64(5, "M"), Refused("no fixed unit"), "interval", Refused("no fixed unit")),
    (np.timedelta64("NaT"), None, "interval", None),
    (pd.Timestamp("2024-02-29T12"), "2024-02-29T12:00:00", "timestamp", NOON),
    (pd.Timestamp(5), FINE, "timestamp", FINE),
    (pd.Timestamp("2024-02-29T12", tz="UTC"), "2024-02-29T12:00:00+00:00", "timestamptz", NOON.replace(tzinfo=UTC)),
    (pd.Timedelta(seconds=5), Refused("total_seconds"), "interval", datetime.timedelta(seconds=5)),
    (pd.NaT, None, "timestamp", None),
    (pd.NA, None, "integer", None),
    (pd.Series([3], dtype="Int64").iloc[0], 3, "integer", 3),
    (pd.Series([None], dtype="Int64").iloc[0], None, "integer", None),
    (DAY, "2024-02-29", "date", DAY),
    (NOON, "2024-02-29T12:00:00", "timestamp", NOON),
    (NOON.replace(tzinfo=PLUS_2), "2024-02-29T12:00:00+02:00", "timestamptz", NOON.replace(tzinfo=PLUS_2)),
    (datetime.time(1, 2), "01:02:00", "time", datetime.time(1, 2)),
    (datetime.time(1, tzinfo=UTC), "01:00:00+00:00", "timetz", datetime.time(1, tzinfo=UTC)),
    (datetime.timedelta(1), Refused("total_seconds"), "interval", datetime.timedelta(1)),
    (Timestamp(0), "1970-01-01T00:00:00+00:00", "timestamptz", datetime.datetime(1970, 1, 1, tzinfo=UTC)),
    (Duration(5), Refused("total_seconds"), "interval", datetime.timedelta(seconds=5)),
    (ID, Refused("no UUIDs"), "uuid", ID),
    (1j, Refused("make it a number, text or bytes"), "text", Refused("cannot adapt type 'complex'")),
    ({"a": np.int64(1)}, Refused("JSON text"), "jsonb", {"a": 1}),
    ({"a": object}, Refused("JSON text"), "jsonb", Refused("has no JSON form")),
    ([np.float64(0.5), 1.0], Refused("JSON text"), "double precision[]", [0.5, 1.0]),
    ([np.int64(1), 2], Refused("JSON text"), "integer[]", [1, 2]),
]


def _name(case: tuple[Any, Any, str, Any]) -> str:
    name = f"{type(case[0]).__module__}.{type(case[0]).__name__}-{str(case[0])[:12]}"
    return name.encode("ascii", "replace").decode()


def _same(found: Any, wanted: Any) -> bool:
    return (found == wanted and type(found) is type(wanted)) or (found != found and wanted != wanted)


def _write(rows: list[Any], sink: beam.PTransform) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([0]) | beam.FlatMap(lambda _: rows) | sink


@pytest.mark.parametrize("key", [None, ("id",)], ids=["added", "upserted"])
@pytest.mark.parametrize("case", VALUES, ids=_name)
def test_a_value_in_sqlite(tmp_path: Path, case: tuple[Any, Any, str, Any], key: Any) -> None:
    value, wanted, _, _ = case
    path = tmp_path / "a.sqlite"
    sink = WriteToSqlite(str(path), "t", {"id": "INTEGER", "x": "BLOB"}, key)
    rows = [{"id": 1, "x": None}, {"id": 2, "x": value}]
    if isinstance(wanted, Refused):
        with pytest.raises(Exception, match=r"table 't': column 'x' cannot store .*The row: {'id': 2") as caught:
            _write(rows, sink)
        assert wanted in str(caught.value)
        return
    _write(rows, sink)
    with contextlib.closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT x FROM t WHERE id = 2").fetchall()
    assert _same(found[0][0], wanted)


@pytest.mark.parametrize("key", [None, ("id",)], ids=["added", "upserted"])
@pytest.mark.parametrize("case", VALUES, ids=_name)
def test_a_value_in_postgres(postgres: str, case: tuple[Any, Any, str, Any], key: Any) -> None:
    value, _, kind, wanted = case
    sink = WriteToPostgres(postgres, "t", {"id": "integer", "x": kind}, key)
    rows = [{"id": 1, "x": None}, {"id": 2, "x": value}]
    if isinstance(wanted, Refused):
        with pytest.raises(Exception, match=r"column '?x.*The row: {'id': 2") as caught:
            _write(rows, sink)
        assert wanted in str(caught.value)
        return
    _write(rows, sink)
    with psycopg.connect(postgres) as connection:
        connection.adapters.register_loader("numeric", psycopg.types.numeric.NumericLoader)
        found = connection.execute("SELECT x FROM t WHERE id = 2").fetchall()
    assert _same(found[0][0], wanted)


def test_a_key_that_pandas_calls_missing_is_no_key(tmp_path: Path) -> None:
    for value in (pd.NA, pd.NaT, np.datetime64("NaT")):
        with pytest.raises(Exception, match="a row has no 'id', which is in the key of table 't'"):
            _write([{"id": value}], WriteToSqlite(str(tmp_path / "a.sqlite"), "t", {"id": "INTEGER"}, ["id"]))


def test_a_row_that_is_none_is_shown(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"table 't' is written with mappings or NamedTuples, not tuple \(1, 2\)"):
        _write([(1, 2)], WriteToSqlite(str(tmp_path / "a.sqlite"), "t", {"id": "INTEGER"}))


@pytest.mark.parametrize("key", [None, ("id",)], ids=["added", "upserted"])
def test_a_row_that_breaks_a_rule_of_the_table_is_named(tmp_path: Path, key: Any) -> None:
    path = tmp_path / "a.sqlite"
    sink = WriteToSqlite(str(path), "t", {"id": "INTEGER", "x": "TEXT NOT NULL CHECK (x <> 'no')"}, key)
    rows = [{"id": n, "x": "yes"} for n in range(100)]
    with pytest.raises(Exception, match=r"NOT NULL constraint failed: .*x.*The row: {'id': 100, 'x': None}"):
        _write([*rows, {"id": 100}], sink)
    with pytest.raises(Exception, match=r"CHECK constraint failed: .*The row: {'id': 100, 'x': 'no'}"):
        _write([*rows, {"id": 100, "x": "no"}], sink)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM t").fetchall() == [(0,)]


@pytest.mark.parametrize("key", [None, ("id",)], ids=["added", "upserted"])
def test_a_row_that_postgres_refuses_is_named(postgres: str, key: Any) -> None:
    rows: list[dict[str, Any]] = [{"id": n, "x": 5} for n in range(100)]
    sink = WriteToPostgres(postgres, "t", {"id": "integer", "x": "smallint NOT NULL CHECK (x > 1)"}, key)
    with pytest.raises(Exception, match=r"null value in column \"x\".*The row: {'id': 100, 'x': None}"):
        _write([*rows, {"id": 100}], sink)
    with pytest.raises(Exception, match=r"violates check constraint.*The row: {'id': 100, 'x': 0}"):
        _write([*rows, {"id": 100, "x": 0}], sink)
    with pytest.raises(Exception, match=r"out of range.*column x.*The row: {'id': 100, 'x': 40000}"):
        _write([*rows, {"id": 100, "x": 40_000}], sink)


def test_numpy_and_pandas_are_not_imported_for_it() -> None:
    code = (
        "import sys; from sage.transforms.io.scalars import plain; loaded = set(sys.modules)\n"
        "class Text(str): pass\n"
        "assert plain(Text('a')) == 'a' and plain(1) == 1; print(sorted(set(sys.modules) - loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=patience(30)
    )
    assert "numpy" not in done.stdout
    assert "pandas" not in done.stdout
