from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.dead_letter import DeadLetter
from sage.transforms.io import Located, ReadJsonLines, WriteJsonLines


def test_lines_that_are_no_objects_are_refused_and_the_others_read(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.jsonl"
    deep = b"[" * 200_000
    path.write_bytes(b'{"a": 1}\n\n{"a": \n[1]\n{"a": "\xff"}\nnull\n' + deep + b'\n{"a": "\xc3\xa9"}')
    source = str(path)
    outputs_are(
        ReadJsonLines(source, with_position=True),
        [Located(source, 1, {"a": 1}), Located(source, 8, {"a": "é"})],
        [
            (source, 3, "not JSON: Expecting value (column 7)"),
            (source, 4, "a JSON object is needed, this is an array"),
            (source, 5, "not UTF-8: invalid start byte at byte 7"),
            (source, 6, "a JSON object is needed, this is null"),
            (source, 7, "not JSON that can be read: nested too deeply"),
        ],
    )


def test_many_files_by_glob(tmp_path: Path, outputs_are) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"n": {number}}}\n')
    outputs_are(ReadJsonLines(str(tmp_path / "*.jsonl")), [{"n": 0}, {"n": 1}, {"n": 2}], [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text("{}\n")
    path.chmod(0)
    with pytest.raises(ConfigError, match="may not be read"):
        outputs_are(ReadJsonLines(str(path)), [], [])


def _write(records: list[Any], path: Path, **options: Any) -> list[str]:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(records) | WriteJsonLines(str(path), **options)
    assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing but the file is left"
    return path.read_text(encoding="utf-8").splitlines()


def test_what_is_written_is_sorted_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made" / "out.jsonl"
    day = datetime.date(2024, 2, 29)
    assert _write([{"b": 2}, {"a": "é", "on": day}], path) == ['{"a": "é", "on": "2024-02-29"}', '{"b": 2}']
    assert _write([{"c": 3}], path) == ['{"c": 3}']
    assert _write([], path) == []


def test_dead_letters_come_file_by_file_and_line_by_line(tmp_path: Path) -> None:
    letters = [DeadLetter("Read", "why", "", "b", 1), *(DeadLetter("Read", "why", "", "a", n) for n in (10, 9))]
    lines = _write(letters, tmp_path / "dead.jsonl", sort_by=DeadLetter.place)
    assert [(json.loads(line)["source"], json.loads(line)["line"]) for line in lines] == [("a", 9), ("a", 10), ("b", 1)]


def test_a_value_without_a_json_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no JSON form"):
        _write([{"a": {1, 2}}], tmp_path / "out.jsonl")
    with pytest.raises(Exception, match=r"NaN and infinite numbers have no JSON form.*The record: {'a': 1, 'b': nan}"):
        _write([{"a": 1, "b": float("nan")}], tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_rows_inside_of_rows_keep_their_names(tmp_path: Path) -> None:
    row = beam.Row(shop="north", sales=[beam.Row(item=3, at=(1, 2))], best=beam.Row(item=3, at=None))
    assert [json.loads(line) for line in _write([row], tmp_path / "out.jsonl")] == [
        {"shop": "north", "sales": [{"item": 3, "at": [1, 2]}], "best": {"item": 3, "at": None}}
    ]


def test_a_folder_takes_records_as_they_come(tmp_path: Path) -> None:
    letter = DeadLetter("Read", "why", "", "a", 1)
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([letter, {"a": datetime.date(2024, 2, 29)}]) | WriteJsonLines(str(tmp_path / "out"))
    lines = (tmp_path / "out" / "part-0-1.jsonl").read_text().splitlines()
    assert sorted(lines) == ['{"a": "2024-02-29"}', json.dumps(letter._asdict())]
