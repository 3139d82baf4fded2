from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import fastavro
import pytest

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteAvro

SCHEMA = {
    "type": "record",
    "name": "Person",
    "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"], "default": None}],
}


class Person(NamedTuple):
    id: int
    name: str | None


def _write(records: list[Any], path: Path, **options: Any) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(records) | WriteAvro(str(path), **{"schema": SCHEMA, **options})


def _read(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))


def test_one_file_is_sorted_and_the_same_bytes_again(tmp_path: Path) -> None:
    path = tmp_path / "people.avro"
    records: list[Any] = [{"id": 2, "name": "Bo"}, Person(1, "Ada"), {"id": 3}]
    _write(records, path, sort_by=lambda record: getattr(record, "id", 0) or record["id"])
    assert _read(path) == [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}, {"id": 3, "name": None}]
    many = [{"id": n, "name": f"n{n}"} for n in range(3_000)]
    _write(many, path)
    before = path.read_bytes()
    random.Random(1).shuffle(many)
    _write(many, path, schema=json.dumps(SCHEMA))
    assert path.read_bytes() == before


def test_a_folder_of_parts(tmp_path: Path) -> None:
    _write(
        [{"id": n} for n in range(10)], tmp_path / "people", codec="null", destination=lambda r: f"odd={r['id'] % 2}"
    )
    assert [record["id"] for record in _read(tmp_path / "people" / "odd=1" / "part-0-1.avro")] == [1, 3, 5, 7, 9]


def test_a_full_part_is_followed_by_another(tmp_path: Path) -> None:
    records = [{"id": n, "name": "x" * 1_000} for n in range(100)]
    _write(records, tmp_path / "people", codec="null", max_file_bytes="32KB")
    parts = list((tmp_path / "people").glob("part-*"))
    assert 2 <= len(parts) <= 5
    assert sorted(record["id"] for part in parts for record in _read(part)) == list(range(100))


@pytest.mark.parametrize("path", ["people.avro", "people"])
def test_a_record_that_does_not_fit_is_shown_with_its_field(tmp_path: Path, path: str) -> None:
    with pytest.raises(Exception, match=r"does not fit the Avro schema.*id.*'seven'"):
        _write([{"id": "seven", "name": "Ada"}], tmp_path / path)
    assert not list(tmp_path.rglob("*.avro"))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"schema": "{"}, "not an Avro schema"),
        ({"schema": {"type": "recor"}}, "not an Avro schema"),
        ({"codec": "zip"}, "codec='zip' cannot be used"),
        ({"suffix": "avro"}, "begins with a dot"),
    ],
)
def test_arguments_that_cannot_be(how: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        WriteAvro("out", **{"schema": SCHEMA, **how})
