"""Rows of CSV in blocks of text.

A block without a quote is split at its line ends and delimiters, which gives the rows that ``csv.reader`` finds in half
of the time. Where a block has quotes, or a row that is not of the header's width, ``csv.reader`` reads it.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sage.transforms.io.csv_dialect import CsvDialect

__all__ = ["Refused", "Rows", "Table", "lines_of"]

_COMPILED_WIDTH = 500

Row = dict[str, str | None]


class Refused(NamedTuple):
    """Lines that are no row.

    Attributes:
        line: the first of them, counted from 0 in their block.
        raw: what they hold.
        reason: why it is no row.
    """

    line: int
    raw: bytes
    reason: str


class Rows(NamedTuple):
    """The rows of a block.

    Attributes:
        good: the rows.
        lines: the line on which each begins, counted from 0 in the block.
        dead: the lines that are no rows.
    """

    good: Sequence[Row]
    lines: Sequence[int]
    dead: list[Refused]


def lines_of(data: bytes, cr: bool) -> list[bytes]:
    """Returns the lines with their ends: ``\\n`` and ``\\r\\n``, and where ``cr`` a lone ``\\r`` too."""
    return data.splitlines(keepends=True) if cr else io.BytesIO(data).readlines()


class Table:
    """Makes rows of the blocks of one file.

    Args:
        columns: the names of the columns.
        dialect: how fields are written.
        nulls: the fields that stand for None.
    """

    def __init__(self, columns: tuple[str, ...], dialect: CsvDialect, nulls: Collection[str] = ()) -> None:
        self._columns = columns
        self._dialect = dialect
        self._nulls = frozenset(nulls)
        self._builders = _builders(len(columns))
        # What only csv.reader understands. It refuses a NUL in Python 3.10.
        self._special = [char for char in (dialect.quotechar, dialect.escapechar, "\0") if char]

    def rows(self, block: bytes, cr: bool) -> Rows:
        """Returns the rows of a block of whole lines, each of which is a row of its own."""
        if not cr:
            try:
                found = self._simple(block.decode())
            except ValueError:  # not UTF-8, or a row of another width
                found = None
            if found is not None:
                return found
        good, lines, dead = [], [], []
        for index, line in enumerate(lines_of(block, cr)):
            for fields, reason in self._line(line):
                if not reason and len(fields) != len(self._columns):
                    reason = self._width(fields)
                if reason:
                    dead.append(Refused(index, line, reason))
                else:
                    good.append(self._row(fields))
                    lines.append(index)
        return Rows(good, lines, dead)

    def _line(self, line: bytes) -> list[tuple[list[str], str]]:
        """Returns the records of one line: none if it is blank, several if a lone ``\\r`` ends one in it."""
        try:
            text = line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            text = "\r"
        if "\r" in text or any(char in text for char in self._special):
            return [(fields, reason) for _, _, fields, reason in self.records(line)]
        return [(text.split(self._dialect.delimiter), "")] if text else []

    def _simple(self, text: str) -> Rows | None:
        """Returns the rows of a block in which each line is a good row; None if they are not to be had this way.

        Raises:
            ValueError: a row has another width.
        """
        returns = text.count("\r")
        if returns and returns != text.count("\r\n"):
            return None
        if returns and returns == text.count("\n"):
            lines = text.split("\r\n")
        else:
            lines = (text.replace("\r\n", "\n") if returns else text).split("\n")
        if not lines[-1]:
            lines.pop()
        columns, delimiter = self._columns, self._dialect.delimiter
        nulls = any(null in text for null in self._nulls)
        special = [char for char in self._special if char in text]
        if not special:
            if len(columns) == 1 and "" in lines:
                return None
            if nulls:
                good = self._builders.build(columns, (self._without_nulls(line.split(delimiter)) for line in lines))
            else:
                good = self._builders.split(columns, lines, delimiter)
        elif special == [self._dialect.quotechar]:
            try:
                records = list(self._dialect.reader(lines))
            except csv.Error:
                return None
            if len(records) != len(lines):
                return None  # a field goes on over the end of its line
            good = self._builders.build(columns, map(self._without_nulls, records) if nulls else records)
        else:
            return None
        return Rows(good, range(len(good)), [])

    def _without_nulls(self, fields: Sequence[str]) -> Sequence[str | None]:
        return [None if field in self._nulls else field for field in fields]

    def _row(self, fields: Sequence[str]) -> Row:
        values = self._without_nulls(fields) if self._nulls else fields
        return dict(zip(self._columns, values, strict=True))

    def _width(self, fields: Sequence[str]) -> str:
        return f"{len(fields)} fields, the header has {len(self._columns)}"

    def spanning_rows(self, data: bytes, final: bool) -> tuple[Rows, int, int]:
        """Returns the rows in a part of a file in which a row may have many lines.

        Args:
            data: whole lines, which begin where a row does.
            final: whether these are the last; otherwise a row at the end that is not complete is left.

        Returns:
            The rows, how many bytes they are, and how many lines.
        """
        if b"\r" not in data:
            try:
                text = data.decode()
                if (self._dialect.quotechar or "") not in text and (found := self._simple(text)) is not None:
                    return found, len(data), text.count("\n")
            except ValueError:
                pass
        raw = lines_of(data, True)
        good, lines, dead = [], [], []
        end = 0
        for start, end, fields, reason in self.records(data, final):
            if not reason and len(fields) != len(self._columns):
                reason = self._width(fields)
            if reason:
                dead.append(Refused(start, b"".join(raw[start:end]), reason))
            else:
                good.append(self._row(fields))
                lines.append(start)
        if final:
            end = len(raw)
        return Rows(good, lines, dead), len(data) if end == len(raw) else sum(map(len, raw[:end])), end

    def records(self, data: bytes, final: bool = True) -> Iterator[tuple[int, int, list[str], str]]:
        """Yields the records of some lines: the first line, the line after the last, the fields, or why there are none.

        Blank lines are none. Where not ``final``, the record that is begun at the end is none either.
        """
        # What is not UTF-8 becomes half of a surrogate pair, which the reader passes over, and is found again.
        text = data.decode("utf-8", "surrogateescape")
        lines = list(io.StringIO(text, newline=""))
        whole = text.isascii() or not _undecodable(text)
        reader = self._dialect.reader(lines)
        start = 0
        while True:
            fields: list[str] = []
            reason = ""
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    if not final:
                        return
                    reason = self._unclosed()
                else:
                    reason = f"not CSV: {error}"
            end = reader.line_num
            if not whole:
                reason = next(filter(None, map(_undecodable, lines[start:end])), reason)
            if fields or reason:
                yield start, end, fields, reason
            start = end

    def _unclosed(self) -> str:
        if self._dialect.multiline:
            return "a quoted field is not closed, and takes the rest of the file with it"
        return (
            "a quoted field is not closed on its line (multiline=True lets it go on; quotechar=None takes it as text)"
        )


def _undecodable(text: str) -> str:
    """Returns why text that was decoded with "surrogateescape" is not UTF-8; empty if it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        try:
            text.encode("utf-8", "surrogateescape").decode()
        except UnicodeDecodeError as error:
            return f"not UTF-8: {error.reason} at byte {error.start}"
    return ""


class _Builders(NamedTuple):
    """Two functions that make dicts, and raise ValueError of a record of another width.

    Attributes:
        split: of the columns, lines and the delimiter.
        build: of the columns and records.
    """

    split: Callable[[tuple[str, ...], Iterable[str], str], list[Row]]
    build: Callable[[tuple[str, ...], Iterable[Sequence[Any]]], list[Row]]


@functools.lru_cache(maxsize=64)
def _builders(width: int) -> _Builders:
    """Returns the functions for records of so many fields.

    They are compiled for the width, without the names, because ``dict(zip(...))`` takes twice the time.
    """
    if width > _COMPILED_WIDTH:
        return _Builders(_split_any, _build_any)
    names = [f"n{place}" for place in range(width)]
    values = [f"v{place}" for place in range(width)]
    pairs = ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
    code = f"""
def split(columns, lines, delimiter):
    [{", ".join(names)}] = columns
    return [{{{pairs}}} for line in lines for [{", ".join(values)}] in [line.split(delimiter)]]

def build(columns, records):
    [{", ".join(names)}] = columns
    return [{{{pairs}}} for [{", ".join(values)}] in records]
"""
    scope: dict[str, Any] = {}
    exec(code, scope)
    return _Builders(scope["split"], scope["build"])


def _split_any(columns: tuple[str, ...], lines: Iterable[str], delimiter: str) -> list[Row]:
    return _build_any(columns, (line.split(delimiter) for line in lines))


def _build_any(columns: tuple[str, ...], records: Iterable[Sequence[Any]]) -> list[Row]:
    return [dict(zip(columns, record, strict=True)) for record in records]
