"""Compressed files are read to their last byte, or a dead letter says what of them is missing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
import zstandard

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import ReadCsv, ReadJsonLines, ReplaceFile, WriteJsonLines, WriteText
from sage.transforms.io.decompression import DamagedFile, chunks_of
from sage.transforms.io.ranges import END


def _lz4(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.compress,
    ".zstd": zstandard.compress,
    ".xz": lzma.compress,
    ".lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    ".deflate": zlib.compress,
    ".lz4": _lz4,
}
# Numbers that do not compress to nothing, so that there is a middle to cut at.
ROWS = [str(number * 2654435761 % 2**32) for number in range(20_000)]
CSV = ("id\n" + "\n".join(ROWS) + "\n").encode()
endings = pytest.mark.parametrize("ending", PACK)


def read(path: Path) -> tuple[list[Any], list[Any]]:
    """The rows of a CSV file, and its dead letters."""
    step = ReadCsv(str(path))._parse
    step.setup()
    good: list[Any] = []
    dead: list[Any] = []
    for found in step.process((str(path), 0, END)):
        if isinstance(found, list):
            good += [row["id"] for row in found]
        else:
            dead.append(found.value)
    return good, dead


@endings
def test_a_whole_file_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending](CSV))
    assert read(path) == (ROWS, [])


@endings
def test_a_file_of_many_streams_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    if ending == ".lzma":
        pytest.skip("an LZMA file has one stream")
    path.write_bytes(PACK[ending](CSV[:30_000]) + PACK[ending](b"") + PACK[ending](CSV[30_000:]))
    assert read(path) == (ROWS, [])


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.3, 0.9, 0.999, 1.0])
@endings
def test_a_file_that_is_cut_off_is_a_dead_letter_and_no_half_row(
    tmp_path: Path, ending: str, part: float, caplog
) -> None:
    path = tmp_path / f"a.csv{ending}"
    packed = PACK[ending](CSV)
    path.write_bytes(packed[: min(int(len(packed) * part), len(packed) - 1)])
    good, (letter,) = read(path)
    assert good == ROWS[: len(good)], "whole rows, and only those before the cut"
    assert (letter.step, letter.source) == ("ReadCsv", str(path))
    assert letter.line == (len(good) + 2 if good else 1)
    assert "cut off" in letter.reason
    assert "get" in letter.reason
    assert str(path) in caplog.text


@endings
def test_a_file_that_is_damaged_inside_is_a_dead_letter(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    packed = bytearray(PACK[ending](CSV))
    middle = len(packed) // 2
    packed[middle : middle + 64] = bytes(byte ^ 0x5A for byte in packed[middle : middle + 64])
    path.write_bytes(packed)
    good, dead = read(path)
    assert [letter.source for letter in dead][-1] == str(path)
    assert any("damaged" in letter.reason or "cut off" in letter.reason for letter in dead), dead[-1]
    assert len(good) < len(ROWS)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>\n<p>404", b"id\n1\n2\n", gzip.compress(CSV), bz2.compress(CSV)])
@endings
def test_a_file_that_is_something_else_is_a_dead_letter(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a.csv{ending}"
    if PACK[ending](b"x")[:2] == content[:2]:
        return
    path.write_bytes(content)
    good, (letter,) = read(path)
    assert good == []
    assert letter.source == str(path)
    assert "is not" in letter.reason or "damaged" in letter.reason or "cut off" in letter.reason
    if content.startswith(b"<"):
        assert "HTML" in letter.reason


@endings
def test_what_follows_the_last_stream_is_not_passed_over(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending](CSV) + b"and something else, no stream at all")
    good, (letter,) = read(path)
    # Arrow gives nothing of the part in which it finds the fault.
    assert good == ROWS[: len(good)] if ending in (".lz4", ".zst", ".zstd") else good == ROWS
    assert letter.source == str(path)
    assert "damaged" in letter.reason


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_zeros_behind_the_last_stream_are_padding(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending](CSV) + bytes(512))
    assert read(path) == (ROWS, [])


def test_a_plain_file_that_is_compressed_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(CSV))
    good, (letter,) = read(path)
    assert good == []
    assert "gzip" in letter.reason


def test_json_lines_that_are_cut_off(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.jsonl.gz"
    # Stored, not compressed: what is cut is known to the byte.
    path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": 22}\n', 0)[:-12])
    with pytest.raises(DamagedFile) as found:
        list(chunks_of(str(path)))
    outputs_are(ReadJsonLines(str(path)), [{"a": 1}], [(str(path), 2, str(found.value))])


@pytest.mark.parametrize("ending", [".zip", ".7z", ".br", ".Z", ".tar", ".tgz", ".tar.gz"])
@pytest.mark.parametrize("reader", [ReadCsv, ReadJsonLines])
def test_a_compression_that_is_not_read_is_refused_when_the_pipeline_is_built(
    tmp_path, outputs_are, ending, reader
) -> None:
    (tmp_path / f"a{ending}").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"are not read; unpack it first"):
        outputs_are(reader(str(tmp_path / "a*")), [], [])


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".zstd", ".lz4"])
def test_what_is_written_is_read_back(tmp_path: Path, outputs_are, ending: str) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([{"a": 1}, {"a": 2}]) | WriteJsonLines(str(path))
    assert b"{" not in path.read_bytes()[:4]
    outputs_are(ReadJsonLines(str(path)), [{"a": 1}, {"a": 2}], [])


@pytest.mark.parametrize("ending", [".xz", ".zip", ".br", ".Z", ".deflate"])
def test_a_compression_that_is_not_written_is_refused_when_the_sink_is_made(ending: str) -> None:
    for make in (
        lambda: WriteJsonLines(f"out/a.jsonl{ending}"),
        lambda: WriteText("out/a", suffix=f".txt{ending}"),
        lambda: ReplaceFile(f"out/a.txt{ending}"),
    ):
        with pytest.raises(ConfigError, match=r"are not written; choose \.gz"):
            make()
