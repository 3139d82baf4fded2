"""What a file format is to the sinks: a way to turn elements into the bytes of one file.

A format is a description, picklable and frozen; it opens a `FileWriter` for each file. The compression of text files is
told by their names: ``.gz``, ``.bz2``, ``.zst`` or ``.lz4``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from sage.errors import ConfigError
from sage.transforms.dead_letter import shorten

__all__ = [
    "FileFormat",
    "FileWriter",
    "LineWriter",
    "Lines",
    "as_record",
    "check_compression",
    "compressed",
    "compression_of",
    "encoded_lines",
]

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd", ".lz4": "lz4"}
# Endings of compressions that are not written. A file of such a name would not be what its name says.
_UNWRITABLE = {".xz", ".lzma", ".deflate", ".br", ".7z", ".lz", ".lzo", ".rar", ".snappy", ".sz", ".tgz", ".z", ".zip"}
_CHUNK_CHARS = 1 << 16
# What a line and a list's place for it take beside the text, and what a compressor takes (bytes).
_LINE_BYTES = 64
_COMPRESSOR_BYTES = {"gzip": 400_000, "bz2": 8_000_000, "zstd": 2_000_000, "lz4": 400_000}
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


def as_record(element: Any) -> Any:
    """A row as a dict of its columns, and the rows inside it too, however deep; anything else as it is.

    >>> import apache_beam as beam
    >>> as_record(beam.Row(shop="north", sales=[beam.Row(item=3)]))
    {'shop': 'north', 'sales': [{'item': 3}]}
    """
    record = element._asdict() if element.__class__ is not dict and hasattr(element, "_asdict") else element
    if record.__class__ is not dict or _SCALARS.issuperset(map(type, record.values())):
        return record
    return {name: _inner(value) for name, value in record.items()}


def _inner(value: Any) -> Any:
    cls = value.__class__
    if cls in _SCALARS:
        return value
    if cls is list or cls is tuple:
        return cls(map(_inner, value))
    return as_record(value)


class FileWriter:
    """Writes the elements of one file; used by one thread, closed once.

    Attributes:
        buffered: about how much memory it takes (bytes).
    """

    buffered: int = 0

    def write(self, element: Any) -> int:
        """Takes one element; about how large the file is so far (bytes, before compression)."""
        raise NotImplementedError

    def release(self) -> None:
        """Writes out what it keeps in memory, or some of it; more elements may follow."""

    def close(self) -> None:
        """Writes what is left. The file itself stays open: whoever opened it makes it safe."""
        raise NotImplementedError


class FileFormat:
    """A description of a format.

    Attributes:
        suffix: the ending of the names of its files, as ``.jsonl``.
    """

    suffix: str

    def open(self, file: BinaryIO, suffix: str) -> FileWriter:
        """A writer into an open, empty file whose name will end with ``suffix``."""
        raise NotImplementedError


class Lines(FileFormat):
    """A format of one line for each element; subclasses say how an element becomes its line."""

    def line(self, element: Any) -> str:
        """The line of an element, without its end."""
        raise NotImplementedError

    def open(self, file: BinaryIO, suffix: str) -> FileWriter:
        return LineWriter(file, compression_of(suffix), self.line)


class LineWriter(FileWriter):
    """Lines of text in UTF-8, written in chunks.

    State: the lines that are not written yet, about 64 KiB of them.
    """

    def __init__(self, file: BinaryIO, compression: str | None, line: Any) -> None:
        self._file = file
        self._compression = compression
        # One that compresses is opened with the first chunk. Compressed files that follow each other are one file.
        self._stream: Any = file if compression is None else None
        self._stream_bytes = 0
        self._line = line
        self._lines: list[str] = []
        self._waiting = 0
        self._size = 0

    def write(self, element: Any) -> int:
        line = self._line(element)
        self._lines.append(line)
        self._waiting += len(line) + 1
        self.buffered += len(line) + _LINE_BYTES
        if self._waiting >= _CHUNK_CHARS:
            self._flush()
        return self._size + self._waiting

    def release(self) -> None:
        self._flush()
        if self._stream is not None and self._compression is not None:
            self._stream.close()
            self._stream, self._stream_bytes = None, 0
        self.buffered = 0

    def close(self) -> None:
        self.release()

    def _flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            data = encoded_lines(lines)
            if self._stream is None:
                self._stream = compressed(self._file, self._compression)
                self._stream_bytes = _COMPRESSOR_BYTES.get(self._compression or "", 0)
            self._stream.write(data)
            self._size += len(data)
            self._waiting = 0
            self.buffered = self._stream_bytes


def encoded_lines(lines: Sequence[str]) -> bytes:
    """The lines in UTF-8, each with its end.

    Raises:
        ValueError: a line has half of a surrogate pair, which no encoding can hold.
    """
    try:
        return "\n".join([*lines, ""]).encode()
    except UnicodeEncodeError as error:
        bad = next(line for line in lines if any("\ud800" <= char <= "\udfff" for char in line))
        raise ValueError(f"a line cannot be written as UTF-8 ({error.reason}): {shorten(bad, 200)!r}") from error


def compression_of(name: str) -> str | None:
    """The compression that a file's name tells; None for none.

    >>> compression_of("part-0-1.jsonl.gz")
    'gzip'
    """
    return _COMPRESSIONS.get(os.path.splitext(name)[1].lower())


def check_compression(name: str) -> None:
    """Checks that a file of this name can be written, before anything runs.

    Raises:
        ConfigError: its ending is that of a compression that is not written, or that this installation of Arrow lacks.
    """
    ending = os.path.splitext(name)[1].lower()
    if ending in _UNWRITABLE:
        raise ConfigError(f"{name!r}: files that end in {ending} are not written; choose {', '.join(_COMPRESSIONS)}")
    _check_available(compression_of(name))


def _check_available(compression: str | None) -> None:
    if compression is not None and not pa.Codec.is_available(compression):
        raise ConfigError(f"this pyarrow is built without {compression}; choose another ending for the files")


def compressed(file: BinaryIO, compression: str | None) -> Any:
    """A stream that compresses into ``file``, or the file itself. Equal input gives equal bytes.

    Raises:
        ConfigError: this installation of Arrow lacks the codec.
    """
    if compression is None:
        return file
    _check_available(compression)
    # Closing the stream must not close the file: it is synced first.
    return pa.CompressedOutputStream(_Unclosed(file), compression)


class _Unclosed:
    """A file that Arrow may write to and not close."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        """The file is flushed when it is made safe."""

    def close(self) -> None:
        """The file is closed when it is made safe."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
