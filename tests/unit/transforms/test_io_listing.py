"""A file that was found is read as exactly that file, and a file can be named exactly."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import fsspec
import pytest
from apache_beam.testing.util import assert_that, equal_to

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import ReadCsv, ReadJsonLines, WriteJsonLines, WriteText, existing_files
from sage.transforms.io.storage import Folder

NAMES = [
    "report[1].csv", "a*b.csv", "a?b.csv", "{a,b}.csv", "with space.csv", "100%25.csv", "café.csv", "cafe\u0301.csv",
    "two\nlines.csv", "[!a].csv", "[.csv", "].csv", "a::b.csv", "#1.csv", "~x.csv", "-.csv", "back\\slash.csv",
    "q'\".csv",
]  # fmt: skip
# Files that the names would match, were they patterns.
OTHERS = ["report1.csv", "axxb.csv", "axb.csv", "b.csv"]


@pytest.mark.parametrize("how", [str, Path, lambda path: glob.escape(str(path)), lambda path: [path, str(path)]])
def test_a_file_of_any_name_is_found_and_read(tmp_path: Path, how: Callable[[Path], Any]) -> None:
    for name in (*NAMES, *OTHERS):
        (tmp_path / name).write_text(f"name\n{NAMES.index(name) if name in NAMES else 'other'}\n")
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        found = [pipeline | repr(name) >> ReadCsv(how(tmp_path / name)) for name in NAMES]
        rows = [result.good for result in found] | beam.Flatten()
        assert_that(rows, equal_to([{"name": str(number)} for number in range(len(NAMES))]))


def test_files_of_all_names_are_found_by_a_pattern_and_read_once(tmp_path: Path, outputs_are) -> None:
    # The star of Beam's patterns stands for no backslash.
    names = [name for name in NAMES if "\\" not in name]
    for number, name in enumerate(names):
        (tmp_path / name).with_suffix(".jsonl").write_text(f'{{"id": {number}}}\n')
    outputs_are(ReadJsonLines(str(tmp_path / "*")), [{"id": number} for number in range(len(names))], [])


def test_a_folder_of_any_name_is_read_from(tmp_path: Path, outputs_are) -> None:
    folder = tmp_path / "day[1]"
    folder.mkdir()
    (folder / "a.csv").write_text("id\n1\n")
    outputs_are(ReadCsv(folder / "a.csv"), [{"id": "1"}], [])
    outputs_are(ReadCsv(glob.escape(str(folder)) + "/*.csv"), [{"id": "1"}], [])
    with pytest.raises(ConfigError, match=r"glob\.escape"):
        existing_files(str(folder / "*.csv"))


def test_a_path_object_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(ConfigError, match="give a str for a pattern"):
        existing_files(tmp_path / "*.csv")
    with pytest.raises(ConfigError, match="no CSV files are named"):
        existing_files([], "CSV")


def test_one_file_of_any_name_is_written_and_read_back(tmp_path: Path) -> None:
    paths = [tmp_path / name.replace(".csv", ".jsonl") for name in NAMES]
    for number in range(2):
        with beam.Pipeline(runner=LocalRunner()) as pipeline:
            rows = pipeline | beam.Create([{"run": number}])
            for path in paths:
                rows | repr(path.name) >> WriteJsonLines(str(path))
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert {path.read_text() for path in paths} == {'{"run": 1}\n'}


def test_a_folder_of_any_name_is_written_twice_and_holds_the_second(tmp_path: Path) -> None:
    folders = [tmp_path / name.removesuffix(".csv") for name in NAMES]
    for lines in (["one", "two"], ["three"]):
        with beam.Pipeline(runner=LocalRunner()) as pipeline:
            given = pipeline | beam.Create(lines)
            for folder in folders:
                given | repr(folder.name) >> WriteText(str(folder))
    assert sorted(tmp_path.iterdir()) == sorted(folders)
    for folder in folders:
        (part,) = (item for item in folder.iterdir() if item.is_file())
        assert part.read_text().split() == ["three"]


@pytest.mark.parametrize("name", NAMES)
def test_a_store_moves_and_removes_exactly_one_file(name: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    folder = Folder("memory://exact")
    for other in OTHERS:
        folder.replace(other, [b"other"])
    folder.replace(f"day[1]/{name}", [b"mine"])
    assert folder.read(f"day[1]/{name}") == b"mine"
    assert folder.files("day[1]") == [f"day[1]/{name}"]
    folder.remove([f"day[1]/{name}"])
    assert folder.files() == sorted(OTHERS)
