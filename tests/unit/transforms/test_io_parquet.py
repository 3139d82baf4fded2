from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteParquet

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("on", pa.date32())])


class Person(NamedTuple):
    id: int
    name: str
    on: datetime.date | None


def _write(rows: list[Any], path: Path) -> list[dict[str, Any]]:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(rows) | WriteParquet(str(path), SCHEMA, sort_by=["name"])
    assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing but the file is left"
    return pq.read_table(path).to_pylist()


def test_rows_come_sorted_with_the_other_columns_breaking_ties(tmp_path: Path) -> None:
    day = datetime.date(2024, 2, 29)
    rows = [Person(2, "b", None), Person(3, "a", day), Person(1, "b", day)]
    assert [row["id"] for row in _write(rows, tmp_path / "a.parquet")] == [3, 1, 2]


def test_the_same_rows_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"id": n, "name": f"n{n % 7}"} for n in range(12_000)]
    written = _write(rows, path)
    assert written == sorted(({**row, "on": None} for row in rows), key=lambda row: (row["name"], row["id"]))
    before = path.read_bytes()
    random.Random(1).shuffle(rows)
    _write(rows, path)
    assert path.read_bytes() == before


def test_no_rows_make_a_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    _write([{"id": 1}], path)
    assert _write([], path) == []
    assert pq.read_schema(path) == SCHEMA


def test_a_value_that_does_not_fit_names_its_column(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="column 'id' is int64"):
        _write([{"id": "seven"}], tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_sorting_by_an_unknown_column_is_refused() -> None:
    with pytest.raises(ConfigError, match="sort_by names 'nr'; the columns are id, name, on"):
        WriteParquet("a.parquet", SCHEMA, sort_by=["nr"])
