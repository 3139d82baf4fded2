"""Lines of a text file, many at a time: a host's way to read Beam's text source.

Beam's source looks for each line end by itself and claims each line; that costs more than most jobs do with a
line. What is read here is the same: the lines that begin within the range, without their ``\n`` or ``\r\n``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from apache_beam import coders
from apache_beam.io import filebasedsource, iobase, textio
from apache_beam.io.range_trackers import OffsetRangeTracker, UnsplittableRangeTracker

from sage.runners.worker.whole_files import name_file, open_whole, read_records

CHUNK_BYTES = 1 << 17  # what is made of it stays in the cache while it is used


def fast_read(source: Any, tracker: Any) -> Iterable[Any] | None:
    """The elements of a (source, range tracker), or None where only the source itself can tell."""
    if type(source) is filebasedsource._SingleFileSource:
        text, file = source._file_based_source, source._file_name
        if type(text) is textio._TextSource and _is_plain(text) and _is_offsets(tracker):
            return chain.from_iterable(_pieces(text, file, tracker))
        return read_records(text, file, tracker)
    return None


def _is_plain(source: Any) -> bool:
    return (
        source._delimiter is None
        and source._escapechar is None
        and source._strip_trailing_newlines
        and not source._skip_header_lines
        and not source._header_matcher
        and type(source._coder) is coders.StrUtf8Coder
    )


def _is_offsets(tracker: Any) -> bool:
    if type(tracker) is UnsplittableRangeTracker:
        tracker = tracker._range_tracker
    return type(tracker) is OffsetRangeTracker


def _pieces(source: Any, name: str, tracker: Any) -> Iterator[Iterable[str]]:
    """The lines of a range, some at a time."""
    start, stop = tracker.start_position(), tracker.stop_position()
    tracker.set_split_points_unclaimed_callback(lambda _: iobase.RangeTracker.SPLIT_POINTS_UNKNOWN)
    with open_whole(source, name) as file:
        at = 0
        rest = b""
        if start:
            # A line belongs to the range that its first byte lies in: the one that reaches into it from before
            # the start is another range's.
            file.seek(start - 1)
            at = start - 1
            while True:
                chunk = _read(file, name)
                if not chunk:
                    return
                end = chunk.find(b"\n")
                if end >= 0:
                    at += end + 1
                    rest = chunk[end + 1 :]
                    break
                at += len(chunk)
        if not tracker.try_claim(at):
            return
        yield from _from(source, file, at, rest, stop, name)


def _read(file: Any, name: str) -> bytes:
    """The next chunk. What is wrong with a file that cannot be decompressed is said of it by name."""
    try:
        chunk: bytes = file.read(CHUNK_BYTES)
    except Exception as error:
        name_file(error, name)
        raise
    return chunk


def _up_to_the_bad(lines: list[bytes], decode: Callable[[bytes], str], name: str, at: int) -> Iterator[str]:
    """The lines before the one that cannot be decoded.

    Raises:
        UnicodeDecodeError: as the decoder gives it, and says which file and where in it.
    """
    for line in lines:
        try:
            text = decode(line)
        except UnicodeDecodeError as error:
            where = f"{error.reason} (in the line that begins at byte {at} of {name})"
            raise UnicodeDecodeError(error.encoding, error.object, error.start, error.end, where) from None
        yield text
        at += len(line) + 1


def _from(source: Any, file: Any, at: int, rest: bytes, stop: Any, name: str) -> Iterator[Iterable[str]]:
    """Lines from offset ``at`` on, up to the last that begins before ``stop``; ``rest`` was read behind ``at``."""
    decode = source._coder.decode
    pieces = [rest]
    while at < stop:
        chunk = _read(file, name)
        pieces.append(chunk)
        if chunk and b"\n" not in chunk:
            continue  # a long line is put together once, when its end is there
        data = b"".join(pieces)
        if not data:
            return
        end = data.rfind(b"\n") + 1 if chunk else len(data)
        whole, pieces = data[:end], [data[end:]]
        if at + end > stop:
            # Only the lines that begin before the stop: the last of them may reach beyond it.
            last = whole.find(b"\n", max(stop - at - 1, 0)) + 1
            whole = whole[:last] if last else whole
        if whole.endswith(b"\n"):
            body = whole[:-1]
        else:
            body = whole
        try:
            lines: Iterable[str] = body.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            lines = _up_to_the_bad(body.split(b"\n"), decode, name, at)
        if b"\r\n" in whole:
            # A carriage return before the file's unended last line is part of that line.
            ended = len(whole) > len(body)
            lines = list(lines)
            last_line = None if ended else lines.pop()
            yield (line[:-1] if line.endswith("\r") else line for line in lines)
            if last_line is not None:
                yield (last_line,)
        else:
            yield lines
        at += end
