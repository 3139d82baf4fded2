from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import Located, ReadCsv

UNCLOSED = "a quoted field is not closed on its line (multiline=True lets it go on; quotechar=None takes it as text)"


def test_rows_are_what_pythons_own_reader_finds(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,name\r\n1,"Ada, Countess"\r\n\r\n2,"say ""hi"""\r\n3,\r\n', encoding="utf-8-sig")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reference = list(csv.DictReader(file))
    assert len(reference) == 3
    outputs_are(ReadCsv(str(path)), reference, [])


def test_bad_lines_are_refused_one_by_one_with_file_and_line(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,name\n1,ok\n2,caf\xe9\n3,a,b\n4\n5,"open\n6,"a"b\n7,fine\n')
    source = str(path)
    outputs_are(
        ReadCsv(source, with_position=True),
        [Located(source, 2, {"id": "1", "name": "ok"}), Located(source, 8, {"id": "7", "name": "fine"})],
        [
            (source, 3, "not UTF-8: invalid continuation byte at byte 5"),
            (source, 4, "3 fields, the header has 2"),
            (source, 5, "1 fields, the header has 2"),
            (source, 6, UNCLOSED),
            (source, 7, "not CSV: ',' expected after '\"'"),
        ],
    )


def test_fields_may_span_lines_when_asked(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,name\n1,"two\nlines"\n2,"bad \xff\nbyte"\n3,last\n')
    source = str(path)
    outputs_are(
        ReadCsv(source, multiline=True, with_position=True),
        [Located(source, 2, {"id": "1", "name": "two\nlines"}), Located(source, 6, {"id": "3", "name": "last"})],
        [(source, 4, "not UTF-8: invalid start byte at byte 7")],
    )


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"id,id\n", "column 'id' is there twice"),
        (b"id,\xff\n", "not UTF-8: invalid start byte at byte 3"),
    ],
)
def test_a_file_without_a_usable_header_is_one_dead_letter(tmp_path: Path, outputs_are, header, why) -> None:
    (tmp_path / "a.csv").write_bytes(header + b"1,2\n3,4\n")
    (tmp_path / "b.csv").write_bytes(b"id,name\n1,ok\n")
    reason = f"the header cannot be used, so the file is skipped: {why}"
    outputs_are(ReadCsv(str(tmp_path / "*.csv")), [{"id": "1", "name": "ok"}], [(str(tmp_path / "a.csv"), 1, reason)])


def test_compressed_files_named_columns_and_another_delimiter(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"1;x\n2;y\n"))
    reader = ReadCsv(str(path), columns=["id", "name"], delimiter=";")
    outputs_are(reader, [{"id": "1", "name": "x"}, {"id": "2", "name": "y"}], [])


def test_wrong_arguments_are_refused_when_the_pipeline_is_built(tmp_path: Path, outputs_are) -> None:
    with pytest.raises(ConfigError, match="one character"):
        ReadCsv("a.csv", delimiter="||")
    with pytest.raises(ConfigError, match=r"no CSV file matches .*nowhere"):
        outputs_are(ReadCsv(str(tmp_path / "nowhere*.csv")), [], [])
    with pytest.raises(ConfigError, match="is a folder"):
        outputs_are(ReadCsv(str(tmp_path)), [], [])


def test_quotes_that_are_text_and_values_that_are_missing(tmp_path: Path, outputs_are) -> None:
    """The shape of IMDb's tables."""
    path = tmp_path / "title.tsv"
    path.write_bytes(b'id\ttitle\tyear\ntt1\t"Rome" by night\t1999\ntt2\t"Open\t\\N\ntt3\tA "b\t2001\n\\N\t""\t\\N\n')
    outputs_are(
        ReadCsv(str(path), delimiter="\t", quotechar=None, nulls=["\\N"]),
        [
            {"id": "tt1", "title": '"Rome" by night', "year": "1999"},
            {"id": "tt2", "title": '"Open', "year": None},
            {"id": "tt3", "title": 'A "b', "year": "2001"},
            {"id": None, "title": '""', "year": None},
        ],
        [],
    )


@pytest.mark.parametrize("multiline", [False, True])
def test_another_quote_and_an_escape(tmp_path: Path, outputs_are, multiline: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,name\n1,'a,b'\n2,'it''s'\n3,a\\,b\n4,'don\\'t'\n5,\"x\"\n6,NULL\n7,'NULL'\n")
    names = ["a,b", "it's", "a,b", "don't", '"x"', None, None]
    rows = [{"id": str(number), "name": name} for number, name in enumerate(names, start=1)]
    outputs_are(ReadCsv(str(path), multiline=multiline, quotechar="'", escapechar="\\", nulls=["NULL"]), rows, [])


@pytest.mark.parametrize("multiline", [False, True])
@pytest.mark.parametrize("quote", [b"", b'"'])
def test_a_field_may_have_any_length(tmp_path: Path, outputs_are, multiline: bool, quote: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,name\n1," + quote + b"x" * 1_000_000 + quote + b"\n2,y\n")
    outputs_are(
        ReadCsv(str(path), multiline=multiline), [{"id": "1", "name": "x" * 1_000_000}, {"id": "2", "name": "y"}], []
    )


@pytest.mark.parametrize("multiline", [False, True])
@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_lines_may_end_in_any_way(tmp_path: Path, outputs_are, end: bytes, multiline: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(end.join([b"id,name", b"1,a", b"", b'2,"b,c"', b"3", b"4,d"]))
    source = str(path)
    outputs_are(
        ReadCsv(source, multiline=multiline, with_position=True),
        [
            Located(source, 2, {"id": "1", "name": "a"}),
            Located(source, 4, {"id": "2", "name": "b,c"}),
            Located(source, 6, {"id": "4", "name": "d"}),
        ],
        [(source, 5, "1 fields, the header has 2")],
    )


def test_a_lone_return_ends_a_row_in_other_files_and_is_kept_in_quotes(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,name\n1,a\r2,b\n3,"c\rd"\n')
    rows = [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c\rd"}]
    outputs_are(ReadCsv(str(path)), rows, [])


@pytest.mark.parametrize("multiline", [False, True])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"id,name", b"id,name\r\n", b"\r\r"])
def test_a_file_without_rows_gives_nothing(tmp_path: Path, outputs_are, content: bytes, multiline: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    outputs_are(ReadCsv(str(path), multiline=multiline), [], [])


@pytest.mark.parametrize(
    ("content", "what"),
    [("id,n\n1,é\n".encode("utf-16"), "UTF-16"), (b"PK\x03\x04\xff", "ZIP"), (b"PAR1\xff\n", "Parquet")],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    step = ReadCsv(str(path))._parse
    step.setup()
    (found,) = step.process((str(path), 0, -1))
    assert "not UTF-8" in found.value.reason
    assert what in found.value.reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"quotechar": "''"}, "quotechar is one character or None"),
        ({"escapechar": ""}, "escapechar is one character or None"),
        ({"delimiter": '"'}, "different characters"),
        ({"delimiter": "\n"}, "no line ends"),
        ({"quotechar": "\\", "escapechar": "\\"}, "different characters"),
        ({"quotechar": None, "multiline": True}, "has no quotes"),
        ({"columns": ["a", "b", "a"]}, "each of them once"),
        ({"columns": "id"}, "names of the columns"),
        ({"nulls": "NULL"}, r"nulls is a list of fields, as \['NULL'\]"),
    ],
)
def test_a_dialect_that_there_cannot_be_is_refused_at_once(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ReadCsv("a.csv", **options)


def test_two_workers_read_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = 300_000
    path.write_text("id,name\n" + "".join(f"{number},name-{number}\n" for number in range(rows)))
    assert path.stat().st_size > 4 << 20, "large enough for four ranges"
    with beam.Pipeline(options=PipelineOptions(["--workers=2"]), runner=LocalRunner()) as pipeline:
        good, dead = pipeline | ReadCsv(str(path), with_position=True)
        sums = good | beam.Map(lambda row: (int(row.value["id"]), row.line)) | beam.Map(_checked)
        total = sums | beam.CombineGlobally(sum)
        assert_that(total, equal_to([rows * (rows - 1) // 2]), label="rows")
        workers = good | beam.Map(lambda _: os.getpid()) | beam.Distinct() | beam.combiners.Count.Globally()
        assert_that(workers, equal_to([2]), label="workers")
        assert_that(dead, equal_to([]), label="dead")


def _checked(place: tuple[int, int]) -> int:
    number, line = place
    assert line == number + 2
    return number
