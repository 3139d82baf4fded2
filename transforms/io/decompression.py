"""Opening files to read: decompressed by their names' endings, to the last byte or with the reason why not.

The decompressors of the standard library and of Beam take a file that was cut off for one that ended, and skip what
follows a whole stream. Each stream of a file is read with its library's own decompressor and must end.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from sage.errors import ConfigError

__all__ = ["CHUNK_BYTES", "DamagedFile", "check_compression", "chunks_of", "codec_of", "foreign_content", "open_raw"]

CHUNK_BYTES = 1 << 16


class DamagedFile(ValueError):
    """A compressed file is cut off, damaged, or something else than its name says.

    Attributes:
        rest: what was read behind the last whole line.
    """

    rest = b""


class Codec(NamedTuple):
    """A compression.

    Attributes:
        name: for messages, and as Arrow names it.
        magic: what each of its streams begins with; empty where that varies.
        decompressor: makes an object with ``decompress``, ``eof`` and ``unused_data``, for one stream; None for one
            that Arrow reads.
    """

    name: str
    magic: bytes
    decompressor: Callable[[], Any] | None


def _gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


_GZIP = Codec("gzip", b"\x1f\x8b", _gzip)
_BZIP2 = Codec("bzip2", b"BZh", bz2.BZ2Decompressor)
_ZSTANDARD = Codec("zstd", b"\x28\xb5\x2f\xfd", None)
_XZ = Codec("xz", b"\xfd7zXZ\0", lzma.LZMADecompressor)
_LZ4 = Codec("lz4", b"\x04\x22\x4d\x18", None)
_CODECS = {
    ".gz": _GZIP,
    ".bz2": _BZIP2,
    ".zst": _ZSTANDARD,
    ".zstd": _ZSTANDARD,
    ".xz": _XZ,
    ".lzma": Codec("LZMA", b"", lzma.LZMADecompressor),
    ".deflate": Codec("deflate", b"", zlib.decompressobj),
    ".lz4": _LZ4,
}
# Endings of compressions that are not read. A file of such a name would be taken for text.
_UNREADABLE = (
    ".7z",
    ".br",
    ".lz",
    ".lzo",
    ".rar",
    ".snappy",
    ".sz",
    ".tar",
    ".tar.bz2",
    ".tar.gz",
    ".tar.xz",
    ".tar.zst",
    ".tbz",
    ".tgz",
    ".txz",
    ".z",
    ".zip",
)
# What a decompressor raises of bytes that are not its own; bz2 raises a plain OSError.
_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError)


def codec_of(path: str) -> Codec | None:
    """Returns the compression that the ending of a file's name stands for; None for a plain file."""
    return _CODECS.get(os.path.splitext(path)[1].lower())


def check_compression(path: str) -> None:
    """Checks that a file of this name can be read, before it is.

    Raises:
        ConfigError: its ending is that of a compression that is not read here.
    """
    lower = path.lower()
    ending = next((ending for ending in _UNREADABLE if lower.endswith(ending)), None)
    if ending is not None:
        raise ConfigError(
            f"{path!r}: files that end in {ending} are not read; unpack it first (read are plain files and "
            f"{', '.join(_CODECS)})"
        )
    codec = codec_of(path)
    if codec is not None and codec.decompressor is None and not pa.Codec.is_available(codec.name):
        raise ConfigError(
            f"{path!r}: this pyarrow is built without {codec.name}; unpack the file, or install another pyarrow"
        )


def open_raw(path: str) -> BinaryIO:
    """Opens exactly this file, as it is stored: no part of its name is a pattern."""
    file: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return file


def chunks_of(path: str) -> Iterator[bytes]:
    """Yields the content of a file from its beginning, decompressed, some of it at a time.

    Raises:
        DamagedFile: it is not a whole file of its compression; all that could be read was yielded before.
    """
    codec = codec_of(path)
    with open_raw(path) as file:
        if codec is None:
            yield from iter(lambda: file.read(CHUNK_BYTES), b"")
        elif codec.decompressor is None:
            yield from _by_arrow(file, codec)
        else:
            yield from _streams(file, codec, codec.decompressor)


def _streams(file: BinaryIO, codec: Codec, make: Callable[[], Any]) -> Iterator[bytes]:
    """Yields the content of all streams of a file, of which there is one at least."""
    stream: Any = None
    size = 0
    begin = b""
    while packed := file.read(CHUNK_BYTES):
        begin = begin or packed[:64]
        size += len(packed)
        while packed:
            if stream is None:
                if len(packed) < size:
                    # Behind a stream a file may be padded with zeros up to a block of its medium.
                    packed = packed.lstrip(b"\0")
                    if not packed:
                        break
                stream, first = make(), len(packed) == size
                at = size - len(packed)
            try:
                content = stream.decompress(packed)
            except _ERRORS as error:
                raise _damaged(codec, begin, first, max(at, size - len(packed)), error) from error
            packed = b""
            if stream.eof:
                packed, stream = stream.unused_data, None
            if content:
                yield content
    if size == 0:
        raise _empty(codec)
    if stream is not None:
        raise _cut_off(codec, size)


def _by_arrow(file: BinaryIO, codec: Codec) -> Iterator[bytes]:
    begin = file.read(64)
    file.seek(0)
    if not begin:
        raise _empty(codec)
    stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec.name)
    while True:
        try:
            content = stream.read(CHUNK_BYTES)
        except (OSError, pa.ArrowException) as error:
            if "runcated" in str(error):
                raise _cut_off(codec, file.tell()) from error
            raise _damaged(codec, begin, True, file.tell(), error) from error
        if not content:
            return
        yield content


_READ_AGAIN = "what was read before is in the output, the rest is missing; get the whole file and read it again"


def _empty(codec: Codec) -> DamagedFile:
    return DamagedFile(f"the file is empty, which {codec.name} data never is: it was cut off; get it again")


def _cut_off(codec: Codec, size: int) -> DamagedFile:
    return DamagedFile(
        f"the file is cut off: its {codec.name} data goes on after byte {size:,}, its last; {_READ_AGAIN}"
    )


def _damaged(codec: Codec, begin: bytes, first: bool, at: int, error: BaseException) -> DamagedFile:
    """Returns the error of bytes that the decompressor refused, in the first stream of the file or a later one."""
    content = foreign_content(begin)
    if (first and not begin.startswith(codec.magic)) or (not codec.magic and content):
        what = content or f"it begins with {begin[:12]!r}"
        return DamagedFile(f"the file is not {codec.name} data, as its name says: {what}; rename it or get it again")
    place = f"about byte {at:,} of the file" if first else f"at or after byte {at:,}, where one stream had ended"
    return DamagedFile(f"the {codec.name} data is damaged {place} ({error}); {_READ_AGAIN}")


def foreign_content(begin: bytes) -> str:
    """Returns what a file seems to be whose first bytes are these, in words; empty if they tell nothing."""
    for codec in (_GZIP, _BZIP2, _ZSTANDARD, _XZ, _LZ4):
        if begin.startswith(codec.magic):
            return f"it looks like {codec.name} data"
    known = {b"PK\x03\x04": "a ZIP archive", b"PAR1": "a Parquet file", b"Obj\x01": "an Avro file"}
    for magic, what in {**known, b"\xff\xfe": "text in UTF-16", b"\xfe\xff": "text in UTF-16"}.items():
        if begin.startswith(magic):
            return f"it looks like {what}"
    return "it looks like HTML or XML" if begin.lstrip().startswith(b"<") else ""
