from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from sage.runners.local import LocalRunner
from sage.transforms.io import WriteText
from sage.transforms.io.formats import LineWriter, encoded_lines


def _write(elements: list[Any], path: Path, **options: Any) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(elements) | WriteText(str(path), **options)


def test_one_file_is_sorted_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "made" / "words.txt"
    _write(["é", "b", "a"], path)
    assert path.read_text(encoding="utf-8") == "a\nb\né\n"
    _write(["bb", "a"], path, sort_by=len)
    assert path.read_text() == "a\nbb\n"
    assert [item.name for item in path.parent.iterdir()] == ["words.txt"]


def test_no_elements_make_an_empty_file(tmp_path: Path) -> None:
    _write([], tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_bytes() == b""


@pytest.mark.parametrize(("ending", "unpacked"), [(".gz", gzip.decompress), (".bz2", bz2.decompress)])
def test_the_ending_tells_the_compression(tmp_path: Path, ending: str, unpacked: Any) -> None:
    path = tmp_path / f"words.txt{ending}"
    _write(["b", "a"], path)
    first = path.read_bytes()
    assert unpacked(first) == b"a\nb\n"
    _write(["a", "b"], path)
    assert path.read_bytes() == first, "equal input gives equal bytes"


def test_long_text_is_written_in_chunks(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        writer = LineWriter(file, None, str)
        sizes = [writer.write("x" * 40_000) for _ in range(3)]
        assert sizes == [40_001, 80_002, 120_003]
        assert file.tell() >= 80_000
        writer.close()
    assert (tmp_path / "a").stat().st_size == 120_003


@pytest.mark.parametrize("path", ["words.txt", "words"])
def test_what_is_no_text_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(Exception, match="WriteText takes str, not int 7"):
        _write(["a", 7], tmp_path / path)
    assert not [item for item in tmp_path.rglob("*") if item.suffix in (".txt", ".tmp")]


def test_half_a_character_is_shown() -> None:
    with pytest.raises(ValueError, match=r"cannot be written as UTF-8 \(surrogates not allowed\): 'b"):
        encoded_lines(["a", "b\ud800"])


@pytest.mark.parametrize("path", ["a.txt", "folder"])
@pytest.mark.parametrize(
    ("line", "why"), [("a\ud800", "cannot be written as UTF-8.*a.ud800"), (7, "takes str, not int 7")]
)
def test_a_line_that_cannot_be_written_is_named_with_its_file(tmp_path: Path, path: str, line: Any, why: str) -> None:
    with (
        pytest.raises(Exception, match=rf"file '{tmp_path / path}/?': .*{why}.*WriteText"),
        beam.Pipeline(runner=LocalRunner()) as pipeline,
    ):
        pipeline | beam.Create([0]) | beam.FlatMap(lambda _: ["a", line, "b"]) | WriteText(str(tmp_path / path))
    assert not [found for found in tmp_path.rglob("*") if found.suffix == ".txt"]
