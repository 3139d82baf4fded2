"""Reading the files of Beam's own sources to their ends: what is wrong with a file is an error that names it.

Beam takes compressed data that was cut off for whole, and the errors of Avro and Parquet do not say which file it was.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystem import CompressedFile

__all__ = ["name_file", "open_whole", "read_records"]


class _WholeFile(CompressedFile):
    """A compressed file that was opened by Beam; its end is an error if its data goes on."""

    def _fetch_to_internal_buffer(self, num_bytes: int) -> None:
        super()._fetch_to_internal_buffer(num_bytes)
        if self._read_eof and getattr(self._decompressor, "eof", True) is False:
            raise OSError(
                f"{self.path} is cut off: its compressed data goes on after the last byte of the file; get the whole "
                "file and read it again"
            )


def open_whole(source: Any, path: str) -> Any:
    """Opens a file as its source does; one that is compressed fails if it is cut off."""
    file = source.open_file(path)
    if type(file) is CompressedFile:
        file.__class__ = _WholeFile
        file.path = path
    return file


def read_records(source: Any, path: str, tracker: Any) -> Iterator[Any]:
    """Yields what a file-based source reads in a range of a file.

    Raises:
        Exception: as the source does, with the path in its message.
    """
    reader = copy.copy(source)
    reader.open_file = lambda name: open_whole(source, name)
    try:
        yield from reader.read_records(path, tracker)
    except Exception as error:
        name_file(error, path)
        raise


def name_file(error: Exception, path: str) -> None:
    """Adds the path of the file that was read to an error's message, and what to do."""
    if path in str(error):
        return
    if isinstance(error, UnicodeDecodeError):
        error.reason = f"{error.reason} (in {path})"
    elif len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{error} (in {path}; if the file is damaged or cut off, get it again)",)
