"""Files as a whole: finding the ones to read before a job runs, replacing one when it has run."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from sage.errors import ConfigError

__all__ = ["ReplaceFile", "existing_files", "replacing"]


def existing_files(patterns: str | Sequence[str], what: str = "input") -> list[str]:
    """The files that match, sorted; called while a pipeline is built, so that a typo fails before anything runs.

    Args:
        patterns: paths or globs (``*``, ``**``, ``?``, ``[...]``) on any file system that Beam knows.
        what: what the files are, for the message of the error.

    Raises:
        ConfigError: a pattern matches no file, or a local file may not be read.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    found: set[str] = set()
    for pattern in patterns:
        try:
            matched = [metadata.path for metadata in FileSystems.match([pattern])[0].metadata_list]
        except (BeamIOError, ValueError) as error:
            raise ConfigError(f"{what} {pattern!r} cannot be listed: {error}") from error
        if not matched:
            raise ConfigError(
                f"no {what} file matches {pattern!r} (looked from {os.getcwd()}). "
                "Check the path; quote globs so that the shell does not expand them."
            )
        for path in matched:
            if os.path.isdir(path):
                raise ConfigError(f"{what} {path!r} is a folder; name its files, as in '{path.rstrip('/')}/*'")
            if os.path.exists(path) and not os.access(path, os.R_OK):
                raise ConfigError(f"{what} file {path!r} may not be read by this user; check its permissions")
        found.update(matched)
    return sorted(found)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A name beside ``path`` to write to; on success it is renamed to ``path``, on failure it is removed.

    On a local file system the rename is atomic: a reader sees the old file or the new one, never a part.
    """
    folder, name = FileSystems.split(path)
    if folder and not FileSystems.exists(folder):
        # Another worker may make the folder between the question and the call.
        with contextlib.suppress(OSError, BeamIOError):
            FileSystems.mkdirs(folder)
    # A name of its own for each attempt: two workers that try the same step must not write into one file.
    hidden = f".{name}.{uuid.uuid4().hex}.tmp"
    temporary = FileSystems.join(folder, hidden) if folder else hidden
    try:
        yield temporary
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise


class ReplaceFile(beam.PTransform):
    """Write one file from the one element of the input, replacing what is there.

    Input: a PCollection with exactly one element, a list of ``bytes`` or ``str`` chunks (text is written as UTF-8).
    Output: the path, once the file is in place; a later step can wait for it.

    Promise: the file appears whole, by rename. If the step is retried, the file is written again and the last
    one stays; equal input gives equal bytes.

    Args:
        path: the file to write. Missing folders are made.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, chunks: beam.PCollection[Any]) -> beam.PCollection[str]:
        return chunks | "Replace" >> beam.Map(_replace, self._path)


def _replace(chunks: list[Any], path: str) -> str:
    # By the ending of the final name: that of the temporary one says nothing.
    compression = CompressionTypes.detect_compression_type(path)
    with (
        replacing(path) as temporary,
        FileSystems.create(temporary, compression_type=compression) as handle,
    ):
        for chunk in chunks:
            handle.write(chunk.encode() if isinstance(chunk, str) else chunk)
    return path
