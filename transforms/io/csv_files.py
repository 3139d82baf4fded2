"""CSV files, read with dead letters. (Not named ``csv``: that name is the standard library's.)"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io import fileio

from sage.errors import ConfigError
from sage.transforms.dead_letter import DeadLetter, shorten
from sage.transforms.io.files import existing_files
from sage.transforms.io.lines import DEAD, GOOD, Located, ReadResult, as_text, byte_lines, readable_files

__all__ = ["ReadCsv"]


class ReadCsv(beam.PTransform):
    """Read CSV files, encoded as UTF-8; every value is text. Blank lines are skipped.

    Input: the pipeline. Output: a `ReadResult` ``(good, dead)``. A row that is not UTF-8, has a stray quote, or
    has more or fewer fields than the header goes to ``dead`` with its file, line and reason; the rows around it
    are read. A file whose header cannot be read gives one dead letter and no rows.

    Args:
        files: paths or globs; ``.gz``, ``.bz2`` and ``.zst`` are decompressed.
        columns: the names of the columns, for files without a header (default: the first line is the header).
        delimiter: one character between fields.
        multiline: let quoted fields hold line breaks. A quote that is never closed then takes the rest of its
            file with it; without, a stray quote costs its own line only.
        with_position: give `Located` records, which know their file and line, in place of plain dicts.

    Raises:
        ConfigError: a path or glob matches no file, or the delimiter is not one character (when applied, before
            anything runs).
    """

    def __init__(
        self,
        files: str | list[str],
        columns: Sequence[str] | None = None,
        delimiter: str = ",",
        multiline: bool = False,
        with_position: bool = False,
    ) -> None:
        super().__init__()
        if len(delimiter) != 1:
            raise ConfigError(f"the delimiter of a CSV file is one character, not {delimiter!r}")
        self._files = files
        self._parse = _ParseCsv(tuple(columns) if columns else None, delimiter, multiline, with_position)

    def expand(self, pbegin: beam.pvalue.PBegin) -> "ReadResult":
        files = readable_files(pbegin, existing_files(self._files, "CSV"))
        outputs = files | "Parse" >> beam.ParDo(self._parse).with_outputs(DEAD, main=GOOD)
        return ReadResult(outputs[GOOD], outputs[DEAD])


class _Row(NamedTuple):
    """The fields that begin on a line, or why there are none."""

    line: int
    raw: bytes
    fields: list[str]
    reason: str = ""


class _ParseCsv(beam.DoFn):
    def __init__(self, columns: tuple[str, ...] | None, delimiter: str, multiline: bool, with_position: bool) -> None:
        self._columns = columns
        self._delimiter = delimiter
        self._multiline = multiline
        self._with_position = with_position

    def process(self, file: fileio.ReadableFile) -> Iterator[Any]:
        path = file.metadata.path
        split = _split_multiline if self._multiline else _split_lines
        columns = self._columns
        for row in split(byte_lines(file), self._delimiter):
            if columns is None:
                columns, reason = _header(row)
                if reason:
                    reason = f"the header cannot be used, so the file is skipped: {reason}"
                    yield beam.pvalue.TaggedOutput(DEAD, _refuse(path, row, reason))
                    return
                continue
            reason = row.reason
            if not reason and len(row.fields) != len(columns):
                reason = f"{len(row.fields)} fields, the header has {len(columns)}"
            if reason:
                yield beam.pvalue.TaggedOutput(DEAD, _refuse(path, row, reason))
                continue
            value = dict(zip(columns, row.fields, strict=True))
            yield Located(path, row.line, value) if self._with_position else value


def _header(row: _Row) -> tuple[tuple[str, ...], str]:
    names = tuple(name.strip() for name in row.fields)
    if row.reason:
        return names, row.reason
    twice = sorted({name for name in names if names.count(name) > 1})
    return names, f"column {twice[0]!r} is there twice" if twice else ""


def _refuse(path: str, row: _Row, reason: str) -> DeadLetter:
    return DeadLetter("ReadCsv", reason, shorten(as_text(row.raw)), path, row.line)


def _split_lines(lines: Iterable[bytes], delimiter: str) -> Iterator[_Row]:
    """Each line is a row."""
    for number, raw in enumerate(lines, start=1):
        try:
            # A byte order mark would become part of the first column's name.
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            fields = next(csv.reader((text,), delimiter=delimiter, strict=True), [])
        except (csv.Error, UnicodeDecodeError) as error:
            yield _Row(number, raw, [], _reason(error))
            continue
        if fields:
            yield _Row(number, raw, fields)


def _split_multiline(lines: Iterable[bytes], delimiter: str) -> Iterator[_Row]:
    """A row ends where its quotes are closed, which may be lines later."""
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        start = feed.begin_row()
        reason = ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fields, reason = [], _reason(error)
        if feed.undecodable is not None:
            fields, reason = [], _reason(feed.undecodable)
        if fields or reason:
            yield _Row(start, b"".join(feed.raw), fields, reason)


class _Feed:
    """Decoded lines for a ``csv.reader``, with a memory of the row that it is reading.

    The reader would end at the first exception, so an undecodable line is handed on mended and noted.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._number = 0
        self.raw: list[bytes] = []
        self.undecodable: UnicodeDecodeError | None = None

    def begin_row(self) -> int:
        """Forget the row before; the number of the line on which the next one starts."""
        self.raw.clear()
        self.undecodable = None
        return self._number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        self._number += 1
        self.raw.append(raw)
        try:
            return raw.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            self.undecodable = error
            return raw.decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason} at byte {error.start}"
    if "unexpected end of data" in str(error):
        return "a quoted field is not closed on its line (multiline=True lets it go on)"
    return f"not CSV: {error}"
