"""The fast ways to read CSV give what ``csv.reader`` gives for each line, wherever a file is cut into ranges."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sage.transforms.io import ReadCsv, ranges
from sage.transforms.io import decompression as opening
from sage.transforms.io.ranges import END

FIELDS = st.sampled_from(
    ["", "a", "bc", " ", "é", '"', '""', '"a"', '"a""b"', '"a,b"', '"a\nb"', '"x"y', "\\", "\0", "\x85\u2028"]
)
LINES = st.lists(st.lists(FIELDS, min_size=1, max_size=3).map(",".join), max_size=8)
ENDS = st.sampled_from(["\n", "\r\n"])


def read(reader: ReadCsv, path: str, cuts: Iterable[int] = ()) -> tuple[list[Any], list[Any]]:
    """What the step of a reader yields for the ranges of a file, without a runner."""
    step = reader._parse
    step.setup()
    edges = [0, *sorted(cuts), END]
    good: list[Any] = []
    dead: list[Any] = []
    for start, stop in itertools.pairwise(edges):
        for found in step.process((path, start, stop)):
            if isinstance(found, beam.pvalue.TaggedOutput):
                dead.append((found.value.line, found.value.reason))
            else:
                good += found
    return good, dead


def by_line(data: bytes, columns: list[str]) -> tuple[list[Any], list[Any]]:
    """The same, a reader for each line."""
    good, dead = [], []
    for number, raw in enumerate(io.BytesIO(data), start=1):
        try:
            fields = next(csv.reader((raw.decode(),), strict=True), [])
        except (csv.Error, UnicodeDecodeError):
            dead.append(number)
            continue
        if fields and len(fields) != len(columns):
            dead.append(number)
        elif fields:
            good.append((number, dict(zip(columns, fields, strict=True))))
    return good, dead


def by_record(data: bytes, columns: list[str]) -> tuple[list[Any], list[Any]]:
    """The same where a field may have line ends."""
    good, dead = [], []
    reader = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return good, dead
        except csv.Error:
            dead.append(line)
            continue
        if fields and len(fields) != len(columns):
            dead.append(line)
        elif fields:
            good.append((line, dict(zip(columns, fields, strict=True))))


@settings(deadline=None, max_examples=400)
@given(
    LINES, ENDS, st.booleans(), st.lists(st.integers(1, 80), max_size=4, unique=True), st.sampled_from([1, 3, 16, 999])
)
@example(["a,b"] * 5 + ["c,"] * 3, "\n", True, [4, 9], 999)
def test_lines_are_read_as_by_a_reader_for_each(tmp_path_factory, lines, end, ended, cuts, chunk) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    data = (end.join(lines) + (end if ended else "")).encode()
    path.write_bytes(data)
    columns = ["x", "y"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "CHUNK_BYTES", chunk)
        patch.setattr(opening, "CHUNK_BYTES", chunk)
        good, dead = read(ReadCsv(str(path), columns=columns, with_position=True), str(path), cuts)
        plain, _ = read(ReadCsv(str(path), columns=columns), str(path), cuts)
    expected, refused = by_line(data, columns)
    assert [(row.line, row.value) for row in good] == expected
    assert plain == [row for _, row in expected]
    assert [line for line, _ in dead] == refused


@settings(deadline=None, max_examples=400)
@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.sampled_from([1, 3, 16, 999]))
def test_records_over_lines_are_read_as_by_one_reader(tmp_path_factory, lines, end, ended, chunk) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    data = (end.join(lines) + (end if ended else "")).encode()
    path.write_bytes(data)
    columns = ["x", "y"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "CHUNK_BYTES", chunk)
        patch.setattr(opening, "CHUNK_BYTES", chunk)
        good, dead = read(ReadCsv(str(path), columns=columns, multiline=True, with_position=True), str(path))
    expected, refused = by_record(data, columns)
    assert [(row.line, row.value) for row in good] == expected
    assert [line for line, _ in dead] == refused


TABLES = st.lists(st.lists(st.text("ab,\"' é\\\t", max_size=4), min_size=2, max_size=2), max_size=8)


@settings(deadline=None, max_examples=200)
@given(
    TABLES,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([0, 1]),
    st.sampled_from([",", "\t", "é"]),
    st.sampled_from([3, 999]),
)
def test_what_python_writes_is_read_back(tmp_path_factory, table, end, quoting, delimiter, chunk) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=end, quoting=quoting, delimiter=delimiter).writerows([["x", "y"], *table])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "CHUNK_BYTES", chunk)
        patch.setattr(opening, "CHUNK_BYTES", chunk)
        good, dead = read(ReadCsv(str(path), delimiter=delimiter), str(path), [5, 11])
    assert dead == []
    assert good == [{"x": x, "y": y} for x, y in table]
