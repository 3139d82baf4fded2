"""CSV files, read with dead letters. (Not named ``csv``: that name is the standard library's.)"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import apache_beam as beam

from sage.errors import ConfigError
from sage.transforms.dead_letter import DEAD, GOOD, DeadLetter, Located, ReadResult, shorten
from sage.transforms.io.csv_dialect import CsvDialect
from sage.transforms.io.csv_head import Head, find_head
from sage.transforms.io.csv_rows import Refused, Rows, Table
from sage.transforms.io.decompression import DamagedFile, chunks_of, foreign_content
from sage.transforms.io.lines import as_text, each
from sage.transforms.io.listing import Paths, find_files
from sage.transforms.io.ranges import FileRange, LineBlocks, LineCounts, damaged_file, file_ranges

__all__ = ["ReadCsv"]


class ReadCsv(beam.PTransform):
    """Read CSV files, encoded as UTF-8; every value is text. Blank lines are skipped.

    Input: the pipeline. Output: a `ReadResult` ``(good, dead)``. A row that is not UTF-8, has a stray quote, or
    has more or fewer fields than the header goes to ``dead`` with its file, line and reason; the rows around it
    are read. A file whose header cannot be read, or has a column twice, gives one dead letter and no rows; an empty
    file gives nothing. Lines end with ``\\n``, ``\\r\\n`` or ``\\r``. A field may have any length.

    A compressed file that is cut off or damaged gives one dead letter that says where, and a warning in the log; the
    rows before that place are read. Plain files are read in ranges, by all workers; compressed ones, and with
    ``multiline`` all, each by one worker.

    A tab-separated file whose quotes are text, and whose missing values are ``\\N``::

        ReadCsv("title.basics.tsv.gz", delimiter="\\t", quotechar=None, nulls=["\\\\N"])

    Args:
        files: paths or globs, see `existing_files`; ``.gz``, ``.bz2``, ``.zst``, ``.xz``, ``.lz4`` and ``.deflate`` are
            decompressed.
        columns: the names of the columns, for files without a header (default: the first line is the header).
        delimiter: one character between fields.
        multiline: let quoted fields hold line breaks. A quote that is never closed then takes the rest of its
            file with it; without, a stray quote costs its own line only.
        with_position: give `Located` records, which know their file and line, in place of plain dicts.
        quotechar: the character around fields that have a delimiter in them, and twice where it is meant itself; None
            if quotes are text as any other.
        escapechar: a character that takes from the next its meaning, as a backslash in files of MySQL.
        nulls: fields that stand for no value, as ``\\\\N``, quoted or not; they become None.

    Raises:
        ConfigError: a delimiter, ``quotechar`` or ``escapechar`` is not one character, two of them are the same, or a
            column is named twice (when constructed); a path or glob matches no file, or a file has a compression that
            is not read (when applied, before anything runs).
    """

    def __init__(
        self,
        files: Paths,
        columns: Sequence[str] | None = None,
        delimiter: str = ",",
        multiline: bool = False,
        with_position: bool = False,
        quotechar: str | None = '"',
        escapechar: str | None = None,
        nulls: Collection[str] = (),
    ) -> None:
        super().__init__()
        dialect = CsvDialect(delimiter, quotechar, escapechar, multiline)
        dialect.check()
        names = tuple(columns) if columns else None
        if isinstance(columns, str) or (names and len(set(names)) < len(names)):
            raise ConfigError(f"columns are the names of the columns, each of them once, not {columns!r}")
        if isinstance(nulls, str):
            raise ConfigError(f"nulls is a list of fields, as [{nulls!r}]")
        self._files = files
        self._split = not multiline
        self._parse = _ParseCsv(names, dialect, tuple(nulls), with_position)

    def expand(self, pbegin: beam.pvalue.PBegin) -> "ReadResult":
        parts = file_ranges(pbegin, find_files(self._files, "CSV"), self._split)
        outputs = parts | "Parse" >> beam.ParDo(self._parse).with_outputs(DEAD, main=GOOD)
        return ReadResult(outputs[GOOD] | "Rows" >> beam.FlatMap(each), outputs[DEAD])


class _ParseCsv(beam.DoFn):
    """Yields lists of rows, a block of lines at a time, and dead letters."""

    def __init__(
        self, columns: tuple[str, ...] | None, dialect: CsvDialect, nulls: tuple[str, ...], with_position: bool
    ) -> None:
        self._columns = columns
        self._dialect = dialect
        self._nulls = nulls
        self._with_position = with_position

    def setup(self) -> None:
        self._counts = LineCounts()

    def process(self, element: tuple[str, int, int]) -> Iterator[Any]:
        return self._read(FileRange(*element))

    def _read(self, part: FileRange) -> Iterator[Any]:
        try:
            head = self._head(part.path)
        except DamagedFile as error:
            if part.first:
                yield beam.pvalue.TaggedOutput(DEAD, damaged_file("ReadCsv", part.path, 1, error))
            return
        if head.refused is not None:
            if part.first:
                yield beam.pvalue.TaggedOutput(DEAD, self._refuse_header(part.path, head.refused))
            return
        if head.columns is None:
            return  # there is nothing in it
        if head.cr and not part.first:
            return  # ranges are cut at "\n", so the first has the whole file
        if head.cr:
            part = FileRange(part.path, 0, -1)
        blocks = LineBlocks(part, self._counts, head.size, head.lines, head.cr or self._dialect.multiline)
        table = Table(head.columns, self._dialect, self._nulls)
        found = _spanning(table, blocks) if self._dialect.multiline else _by_line(table, blocks, head.cr)
        try:
            for rows, first_line in found:
                yield from self._outputs(part.path, rows, first_line)
        except DamagedFile as error:
            yield beam.pvalue.TaggedOutput(DEAD, damaged_file("ReadCsv", part.path, blocks.first_line(), error))

    def _head(self, path: str) -> Head:
        data, need = bytearray(), 0
        for chunk in chunks_of(path):
            data += chunk
            if len(data) >= need:
                if (head := find_head(bytes(data), False, self._dialect, self._columns)) is not None:
                    return head
                need = 2 * len(data)
        head = find_head(bytes(data), True, self._dialect, self._columns)
        assert head is not None, "of a whole file it is known"
        return head

    def _outputs(self, path: str, rows: Rows, first_line: Callable[[], int]) -> Iterator[Any]:
        if rows.good:
            if self._with_position:
                first = first_line()
                yield [Located(path, first + line, row) for line, row in zip(rows.lines, rows.good, strict=True)]
            else:
                yield rows.good
        for refused in rows.dead:
            yield beam.pvalue.TaggedOutput(DEAD, _refuse(path, first_line(), refused, refused.reason))

    def _refuse_header(self, path: str, refused: Refused) -> DeadLetter:
        content = foreign_content(refused.raw)
        why = refused.reason + (f"; {content}" if content else "")
        return _refuse(path, 1, refused, f"the header cannot be used, so the file is skipped: {why}")


def _by_line(table: Table, blocks: LineBlocks, cr: bool) -> Iterator[tuple[Rows, Callable[[], int]]]:
    """Yields the rows of each block, and what returns the number of its first line."""
    for block in blocks:
        yield table.rows(block, cr), blocks.first_line


def _spanning(table: Table, blocks: LineBlocks) -> Iterator[tuple[Rows, Callable[[], int]]]:
    """Yields the same where a row may go on from one block to the next.

    A row that does is read again with what follows, of which there is as much again each time.
    """
    line, parts, size, need = 0, list[bytes](), 0, 0

    def rows(final: bool) -> tuple[Rows, Callable[[], int]]:
        nonlocal line, parts, size, need
        data = b"".join(parts)
        found, used, lines = table.spanning_rows(data, final)
        first, line = line, line + lines
        parts, size = [data[used:]], len(data) - used
        need = 2 * size
        return found, lambda: first

    try:
        for block in blocks:
            line = line or blocks.first_line()
            parts.append(block)
            size += len(block)
            if size >= need:
                yield rows(final=False)
    except DamagedFile as error:
        yield rows(final=False)
        error.rest = b"".join(parts) + error.rest
        raise
    yield rows(final=True)


def _refuse(path: str, first_line: int, refused: Refused, reason: str) -> DeadLetter:
    return DeadLetter("ReadCsv", reason, shorten(as_text(refused.raw)), path, first_line + refused.line)
