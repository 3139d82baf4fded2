from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from sage.errors import ConfigError
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
