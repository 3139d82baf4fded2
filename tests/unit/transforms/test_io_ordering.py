from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteAvro, WriteJsonLines, WriteParquet, WriteText

AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": "id", "type": "int"}, {"name": "key", "type": ["null", "int", "double", "string"]}],
}


def _write(rows: list[Any], sink: beam.PTransform, workers: int = 1) -> None:
    with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--workers={workers}"])) as pipeline:
        pipeline | beam.Create([0]) | beam.FlatMap(lambda _: rows) | beam.Reshuffle() | sink


def _written(kind: str, rows: list[dict[str, Any]], folder: Path, workers: int = 1) -> list[int]:
    """The ids of rows in the order in which they stand in one file that was sorted by their keys."""
    path = folder / f"rows.{kind}"
    if kind == "txt":
        keys = {str(row["id"]): row["key"] for row in rows}
        sink: beam.PTransform = WriteText(str(path), sort_by=lambda line: keys[line])
        _write(list(keys), sink, workers)
        return [int(line) for line in path.read_text().splitlines()]
    if kind == "jsonl":
        _write(rows, WriteJsonLines(str(path), sort_by=lambda row: row["key"]), workers)
        return [json.loads(line)["id"] for line in path.read_text().splitlines()]
    if kind == "avro":
        _write(rows, WriteAvro(str(path), AVRO, sort_by=lambda row: row["key"]), workers)
        with path.open("rb") as file:
            return [row["id"] for row in fastavro.reader(file)]
    _write(rows, WriteParquet(str(path), sort_by=["key"]), workers)
    return pq.read_table(path).column("id").to_pylist()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "avro", "parquet"])
def test_none_comes_last(tmp_path: Path, kind: str, first: int, workers: int) -> None:
    keys = [None, 7, 3]
    rows = [{"id": n, "key": keys[(n + first) % 3]} for n in range(3)]
    wanted = [keys[(n + first) % 3] for n in _written(kind, rows, tmp_path, workers)]
    assert wanted == [3, 7, None]


@pytest.mark.parametrize("kind", ["txt", "avro", "parquet"])
def test_nan_comes_behind_the_numbers(tmp_path: Path, kind: str) -> None:
    rows = [{"id": n, "key": key} for n, key in enumerate([math.nan, 2.5, math.inf, -1.0])]
    assert _written(kind, rows, tmp_path) == [3, 1, 2, 0]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "avro"])
def test_keys_that_do_not_compare_are_an_error(tmp_path: Path, kind: str) -> None:
    rows = [{"id": 1, "key": "a"}, {"id": 2, "key": 1}]
    with pytest.raises(Exception, match=r"sort_by makes (str and int|int and str), which do not compare"):
        _written(kind, rows, tmp_path)


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ([(1, None), (1, 2), (0, 9), (None, 0)], [2, 1, 0, 3]),
        ([np.int64(3), 1, None, np.float64("nan")], [1, 0, 2, 3]),
        ([pd.NA, pd.Timestamp(2), pd.NaT, pd.Timestamp(1000)], None),
        ([pd.Timestamp(2024, 1, 2), pd.NaT, pd.Timestamp(2024, 1, 1)], [2, 0, 1]),
        ([Decimal("1.5"), 1, None], [1, 0, 2]),
        ([True, False, None], [1, 0, 2]),
        ([datetime.date(2024, 1, 2), None, datetime.date(2024, 1, 1)], [2, 0, 1]),
        ([[2], [1, 5], None, []], [3, 1, 0, 2]),
        ([{"a": 1}, {"a": 2}], None),
        ([datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 1)], None),
    ],
)
def test_any_keys_are_sorted_or_refused(tmp_path: Path, keys: list[Any], order: list[int] | None) -> None:
    sink = WriteText(str(tmp_path / "a.txt"), sort_by=lambda line: keys[int(line)])
    lines = [str(n) for n in range(len(keys))]
    if order is None:
        with pytest.raises(Exception, match=r"sort_by"):
            _write(lines, sink)
        return
    _write(lines, sink)
    assert [int(line) for line in (tmp_path / "a.txt").read_text().splitlines()] == order


def test_a_parquet_file_with_columns_that_have_no_order(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("tags", pa.list_(pa.string())),
            ("point", pa.struct([("x", pa.int64())])),
            ("pairs", pa.map_(pa.string(), pa.int64())),
            ("half", pa.float16()),
            ("kind", pa.dictionary(pa.int32(), pa.string())),
            ("nothing", pa.null()),
            ("price", pa.decimal128(5, 2)),
        ]
    )
    rows: list[dict[str, Any]] = [
        {"id": 1, "tags": ["b"], "point": {"x": 2}, "pairs": {"a": 1}, "half": 0.5, "kind": "z", "price": 3},
        {"id": 1, "tags": ["a"], "point": {"x": 1}, "pairs": [("b", 2)], "half": 0.5, "kind": "z", "price": 3},
        {"id": 1, "tags": ["a"], "point": {"x": 1}, "pairs": {"a": 1}, "half": 0.5, "kind": "y", "price": 3},
        {"id": 0, "tags": None, "point": None, "pairs": None},
    ]
    path = tmp_path / "rows.parquet"
    made = set()
    for turn in range(4):
        _write(rows[turn:] + rows[:turn], WriteParquet(str(path), schema))
        made.add(path.read_bytes())
    assert len(made) == 1
    table = pq.read_table(path)
    assert table.column("id").to_pylist() == [0, 1, 1, 1]
    assert sorted(map(str, table.column("pairs").to_pylist())) == sorted(
        ["None", "[('a', 1)]", "[('a', 1)]", "[('b', 2)]"]
    )
    inferred = tmp_path / "inferred.parquet"
    _write([{"id": 2, "tags": ["b"]}, {"id": 1, "tags": np.array(["a", "c"])}], WriteParquet(str(inferred)))
    assert pq.read_table(inferred).to_pylist() == [{"id": 1, "tags": ["a", "c"]}, {"id": 2, "tags": ["b"]}]


def test_a_parquet_file_is_not_sorted_by_what_has_no_order(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string()))])
    with pytest.raises(ConfigError, match=r"sort_by names 'tags', and values of list<.*> have no order"):
        WriteParquet(str(tmp_path / "a.parquet"), schema, sort_by=["tags"])
    with pytest.raises(Exception, match=r"sort_by names 'tags', and values of list<.*> have no order"):
        _write([{"id": 1, "tags": ["a"]}], WriteParquet(str(tmp_path / "a.parquet"), sort_by=["tags"]))
