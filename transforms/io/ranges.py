"""Ranges of files, and the whole lines in them: how the readers of lines spread one file over the workers.

A line belongs to the range in which it begins. Ranges are cut where no line end is looked for; who reads one skips to
the first line that begins in it, and reads the last one to its end.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import apache_beam as beam

from sage.transforms.dead_letter import DeadLetter, shorten
from sage.transforms.io.decompression import CHUNK_BYTES, DamagedFile, check_compression, chunks_of, codec_of, open_raw
from sage.transforms.io.lines import as_text
from sage.transforms.io.listing import FoundFile

__all__ = ["FileRange", "LineBlocks", "LineCounts", "damaged_file", "file_ranges", "whole_lines"]

_LOG = logging.getLogger(__name__)

# So many ranges make the shares of the workers even; smaller or larger ones cost more than they bring.
_RANGES = 64
_LEAST_BYTES = 1 << 20
_MOST_BYTES = 1 << 26
END = -1


class FileRange(NamedTuple):
    """A part of a file: the lines that begin in it.

    Attributes:
        path: the file.
        start: its first byte.
        stop: the byte after its last; `END` for the end of the file, wherever that will be.
    """

    path: str
    start: int
    stop: int

    @property
    def first(self) -> bool:
        """Whether it is the first part of its file."""
        return self.start == 0


def file_ranges(
    pbegin: beam.pvalue.PBegin, files: Iterable[FoundFile], split: bool
) -> beam.PCollection[tuple[str, int, int]]:
    """Returns the files as elements, spread over the workers: plain files in ranges if ``split``, others as a whole.

    Raises:
        ConfigError: a file has a compression that is not read here.
    """
    # Plain tuples: every runner has a coder for them.
    ranges = [tuple(part) for file in files for part in _ranges(file, split)]
    return pbegin | "Files" >> beam.Create(ranges) | "Spread" >> beam.Reshuffle()


def _ranges(file: FoundFile, split: bool) -> Iterator[FileRange]:
    check_compression(file.path)
    size = max(_LEAST_BYTES, min(_MOST_BYTES, file.size // _RANGES))
    cuts = range(size, file.size, size) if split and codec_of(file.path) is None else ()
    for start, stop in zip((0, *cuts), (*cuts, END), strict=True):
        yield FileRange(file.path, start, stop)


def whole_lines(chunks: Iterable[bytes], cr: bool = False) -> Iterator[bytes]:
    """Yields the same bytes cut behind ends of lines: ``\\n``, and where ``cr`` also ``\\r`` and ``\\r\\n``.

    Raises:
        DamagedFile: as ``chunks`` does; its ``rest`` is the line that was begun.
    """
    begun: list[bytes] = []
    try:
        for chunk in chunks:
            end = chunk.rfind(b"\n") + 1
            if cr:
                # One at the end of the chunk may be half of "\r\n".
                end = max(end, chunk.rfind(b"\r", 0, max(len(chunk) - 1, 0)) + 1)
            if end:
                begun.append(chunk[:end])
                yield b"".join(begun)
                chunk = chunk[end:]
                begun = []
            begun.append(chunk)
    except DamagedFile as error:
        error.rest = b"".join(begun)
        raise
    rest = b"".join(begun)
    if rest:
        yield rest


class LineCounts:
    """Counts the lines before an offset of a plain file.

    State: the offsets of each file that were asked for, sorted, and how many lines are before them; a later one is
    counted from the nearest.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[int, int]]] = {}

    def before(self, path: str, offset: int) -> int:
        """Returns how many lines end before ``offset``."""
        known = self._known.setdefault(path, [(0, 0)])
        place = bisect_right(known, (offset, offset))
        at, lines = known[place - 1]
        if at < offset:
            with open_raw(path) as file:
                file.seek(at)
                while at < offset:
                    data = file.read(min(offset - at, 1 << 20))
                    if not data:
                        break
                    at += len(data)
                    lines += data.count(b"\n")
            known.insert(place, (offset, lines))
        return lines


class LineBlocks:
    """Reads a range in blocks of whole lines, as an iterable of bytes.

    State: how many lines were read, and how many are before the range, once that was asked for.

    Args:
        part: what to read.
        counts: counts the lines before it, if that is asked for.
        skip: how many bytes at the beginning of the file are not read, such as those of a header.
        skipped: how many lines these are.
        cr: whether a lone ``\\r`` ends a line; then the range is the whole file.
    """

    def __init__(self, part: FileRange, counts: LineCounts, skip: int = 0, skipped: int = 0, cr: bool = False) -> None:
        self._part = part
        self._counts = counts
        self._skip = skip
        self._before: int | None = skipped if part.start <= skip else None
        self._start = max(part.start, skip)
        self._lines = 0
        self._cr = cr

    def __iter__(self) -> Iterator[bytes]:
        for block in self._compressed() if codec_of(self._part.path) else self._plain():
            yield block
            self._lines += _line_ends(block, self._cr)

    def first_line(self) -> int:
        """Returns the number of the first line of the block that was read last, counted from 1."""
        if self._before is None:
            self._before = self._counts.before(self._part.path, self._start)
        return self._before + self._lines + 1

    def _compressed(self) -> Iterator[bytes]:
        return whole_lines(_without(chunks_of(self._part.path), self._skip), self._cr)

    def _plain(self) -> Iterator[bytes]:
        path, start, stop = self._part
        with open_raw(path) as file:
            rest = b""
            if start <= self._skip:
                file.seek(self._skip)
            else:
                # From the byte before: a line begins at the start of the range if that byte ends one.
                file.seek(start - 1)
                self._start = start - 1
                end = 0
                while not end:
                    data = file.read(CHUNK_BYTES)
                    if not data:
                        return
                    end = data.find(b"\n") + 1
                    self._start += end or len(data)
                rest = data[end:]
            at = self._start
            for block in whole_lines(chain((rest,), iter(lambda: file.read(CHUNK_BYTES), b"")), self._cr):
                if stop != END and at + len(block) > stop:
                    if at < stop:
                        end = block.find(b"\n", stop - at - 1) + 1
                        yield block[:end] if end else block
                    return
                yield block
                at += len(block)


def _without(chunks: Iterable[bytes], skip: int) -> Iterator[bytes]:
    for chunk in chunks:
        if skip:
            skip, chunk = max(skip - len(chunk), 0), chunk[skip:]
        if chunk:
            yield chunk


def _line_ends(block: bytes, cr: bool) -> int:
    ends = block.count(b"\n")
    return ends + block.count(b"\r") - block.count(b"\r\n") if cr else ends


def damaged_file(step: str, path: str, line: int, error: DamagedFile) -> DeadLetter:
    """Returns the dead letter of a file that could not be read to its end, and warns of it in the log.

    Its lines may be many, and nobody may look at the dead letters; a file that is missing in part is not to be missed.
    """
    _LOG.warning("%s: %s: %s", step, path, error)
    return DeadLetter(step, str(error), shorten(as_text(error.rest[: 1 << 16])), path, line)
