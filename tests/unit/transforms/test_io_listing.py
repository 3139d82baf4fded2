"""A file that was found is read as exactly that file, and a file can be named exactly."""

from __future__ import annotations

import glob
from pathlib import Path

import apache_beam as beam
import fsspec
import pytest

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import ReadCsv, ReadJsonLines, WriteJsonLines, WriteText, existing_files
from sage.transforms.io.storage import Folder

NAMES = [
    "report[1].csv", "a*b.csv", "a?b.csv", "{a,b}.csv", "with space.csv", "100%25.csv", "café.csv", "cafe\u0301.csv",
    "two\nlines.csv", "[!a].csv", "[.csv", "].csv", "a::b.csv", "#1.csv", "~x.csv", "-.csv", "back\\slash.csv", "q'\".csv",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_found_and_read(tmp_path: Path, outputs_are, name: str) -> None:
    (tmp_path / name).write_text("id\n1\n")
    # A file that the name would match, were it a pattern.
    for other in ("report1.csv", "axxb.csv", "axb.csv", "b.csv"):
        (tmp_path / other).write_text("id\nother\n")
    outputs_are(ReadCsv(str(tmp_path / name)), [{"id": "1"}], [])
    outputs_are(ReadCsv(tmp_path / name), [{"id": "1"}], [])
    outputs_are(ReadCsv([tmp_path / name, str(tmp_path / name)]), [{"id": "1"}], [])
    outputs_are(ReadCsv(glob.escape(str(tmp_path / name))), [{"id": "1"}], [])
    assert str(tmp_path / name) in existing_files(str(tmp_path / "*.csv"))


def test_files_of_all_names_are_found_by_a_pattern_and_read_once(tmp_path: Path, outputs_are) -> None:
    for number, name in enumerate(NAMES):
        (tmp_path / name).with_suffix(".jsonl").write_text(f'{{"id": {number}}}\n')
    outputs_are(ReadJsonLines(str(tmp_path / "*")), [{"id": number} for number in range(len(NAMES))], [])


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


@pytest.mark.parametrize("name", NAMES)
def test_one_file_of_any_name_is_written_and_read_back(tmp_path: Path, outputs_are, name: str) -> None:
    path = tmp_path / "out" / name.replace(".csv", ".jsonl")
    for _ in range(2):
        with beam.Pipeline(runner=LocalRunner()) as pipeline:
            pipeline | beam.Create([{"id": 1}]) | WriteJsonLines(str(path))
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    outputs_are(ReadJsonLines(path), [{"id": 1}], [])


@pytest.mark.parametrize("name", [name.removesuffix(".csv") for name in NAMES])
def test_a_folder_of_any_name_is_written_twice_and_holds_the_second(tmp_path: Path, name: str) -> None:
    for lines in (["one", "two"], ["three"]):
        with beam.Pipeline(runner=LocalRunner()) as pipeline:
            pipeline | beam.Create(lines) | WriteText(str(tmp_path / name))
    (part,) = (item for item in (tmp_path / name).iterdir() if item.is_file())
    assert part.read_text().split() == ["three"]
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_store_moves_and_removes_exactly_one_file(name: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    folder = Folder("memory://exact")
    for other in ("report1.csv", "axxb.csv", "axb.csv", "b.csv"):
        folder.replace(other, [b"other"])
    folder.replace(f"day[1]/{name}", [b"mine"])
    assert folder.read(f"day[1]/{name}") == b"mine"
    assert folder.files("day[1]") == [f"day[1]/{name}"]
    folder.remove([f"day[1]/{name}"])
    assert folder.files() == ["axb.csv", "axxb.csv", "b.csv", "report1.csv"]
