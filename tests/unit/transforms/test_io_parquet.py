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


def _write_parts(rows: list[Any], folder: Path, **options: Any) -> pa.Table:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(rows) | WriteParquet(str(folder), **options)
    return pq.read_table(folder)


def test_a_folder_of_parts_is_a_dataset(tmp_path: Path) -> None:
    rows = [{"id": n, "name": f"n{n}"} for n in range(25_000)]
    table = _write_parts(rows, tmp_path / "out", schema=SCHEMA, max_file_bytes="100KB", compression="zstd")
    assert sorted(table.column("id").to_pylist()) == list(range(25_000))
    parts = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert parts == ["part-0-1-1.parquet", "part-0-1-2.parquet", "part-0-1.parquet"]
    assert pq.read_metadata(tmp_path / "out" / parts[0]).row_group(0).column(0).compression == "ZSTD"


def test_a_schema_is_inferred_from_the_rows(tmp_path: Path) -> None:
    day = datetime.date(2024, 2, 29)
    table = _write_parts([{"id": 1}, Person(2, "b", day)], tmp_path / "out")
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int64",
        "name": "string",
        "on": "date32[day]",
    }
    path = tmp_path / "one.parquet"
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([{"id": 2, "name": "b"}, {"id": 1}]) | WriteParquet(str(path))
    assert pq.read_table(path).to_pylist() == [{"id": 1, "name": None}, {"id": 2, "name": "b"}]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"id": 1}, {"id": "seven"}], r"column 'id' is int64, and str 'seven' is not .*\{'id': 'seven'\}"),
        ([{"id": 1}, {"id": 2**70, "name": "big"}], r"column 'id' is int64, .*'name': 'big'"),
        ([{"id": 1, "nmae": "Ada"}], r"a row has a column 'nmae' that the schema lacks \(id, name, on\)"),
    ],
)
def test_a_row_that_does_not_fit_is_shown(tmp_path: Path, rows: list[Any], why: str) -> None:
    with pytest.raises(Exception, match=why):
        _write_parts(rows, tmp_path / "out", schema=SCHEMA)
    assert not list(tmp_path.rglob("*.parquet"))


def test_rows_inside_of_rows_are_structs(tmp_path: Path) -> None:
    row = beam.Row(shop="north", best=beam.Row(item=3), sales=[beam.Row(item=3), beam.Row(item=4)])
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([row]) | WriteParquet(str(tmp_path / "out"))
    assert pq.read_table(tmp_path / "out").to_pylist() == [
        {"shop": "north", "best": {"item": 3}, "sales": [{"item": 3}, {"item": 4}]}
    ]


def test_what_must_be_there_must_be_there(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    with pytest.raises(Exception, match="column 'id' must not be null, and it is in"):
        _write_parts([{"id": 1}, {}], tmp_path / "out", schema=schema)


def test_rows_that_do_not_fit_what_was_inferred_say_so(tmp_path: Path) -> None:
    rows = [{"id": 1}] * 10_000 + [{"id": "seven"}]
    with pytest.raises(Exception, match=r"'seven' is not .*the schema was inferred from the first rows; give schema="):
        _write_parts(rows, tmp_path / "out")
    with pytest.raises(Exception, match=r"column 'id' has values that do not go together .*give schema="):
        _write_parts([{"id": 1}, {"id": "seven"}], tmp_path / "out")


def test_a_compression_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="compression='zip' is not one"):
        WriteParquet("out", SCHEMA, compression="zip")
