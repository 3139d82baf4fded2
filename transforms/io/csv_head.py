"""What the beginning of a CSV file tells about the rest of it: its columns, and how its lines end."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from sage.transforms.io.csv_dialect import CsvDialect
from sage.transforms.io.csv_rows import Refused, Table, lines_of

__all__ = ["Head", "find_head"]


class Head(NamedTuple):
    """What the beginning of a file tells about the rest of it.

    Attributes:
        size: how many bytes come before the first row of data.
        lines: how many lines these are.
        cr: whether the file's lines end with a lone ``\\r``.
        columns: the names in the header; None if there is none yet.
        refused: the header that cannot be used.
    """

    size: int
    lines: int
    cr: bool
    columns: tuple[str, ...] | None
    refused: Refused | None = None


def find_head(data: bytes, final: bool, dialect: CsvDialect, columns: tuple[str, ...] | None) -> Head | None:
    """Returns the head of a file that begins with ``data``; None if more of it is needed.

    Args:
        data: the beginning of the file.
        final: whether it is all of it.
        dialect: how fields are written.
        columns: the names of the columns, if the file has no header.
    """
    marked = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    cr = _ends_with_cr(data[marked:], final, dialect)
    if cr is None:
        return None
    if columns is not None:
        return Head(marked, 0, cr, columns)
    size, lines = marked, 0
    table = Table(("",), dialect)
    for line in lines_of(data[marked:], cr or dialect.multiline):
        size += len(line)
        lines += 1
        if not line.endswith((b"\n", b"\r") if cr else b"\n") and not final:
            return None
        if line.strip(b"\r\n"):
            break
    else:
        return Head(size, lines, cr, None) if final else None
    begin = size - len(line)
    spans = dialect.multiline
    found = next(table.records(data[begin:] if spans else line, final or not spans), None)
    if found is None:
        return None
    _, ended, fields, reason = found
    raw = b"".join(lines_of(data[begin:], True)[:ended]) if spans else line
    ended = ended if spans else 1
    names = tuple(name.strip() for name in fields)
    twice = next((name for name in names if names.count(name) > 1), None)
    if not reason and twice is not None:
        reason = f"column {twice!r} is there twice"
    refused = Refused(lines - 1, raw, reason) if reason else None
    return Head(begin + len(raw), lines - 1 + ended, cr, names, refused)


def _ends_with_cr(data: bytes, final: bool, dialect: CsvDialect) -> bool | None:
    """Returns whether the first line of a file ends with a lone ``\\r``; None if that cannot be seen yet."""
    quote = (dialect.quotechar or "\n").encode()
    quoted = False
    for match in re.finditer(b"|".join((re.escape(quote), b"\r", b"\n")), data):
        found, end = match.group(), match.end()
        if found == b"\n" and not (quoted and dialect.multiline):
            return False
        if found == b"\r" and not quoted:
            return None if end == len(data) and not final else data[end : end + 1] not in (b"\n", b"")
        quoted ^= found == quote
    return False if final else None
