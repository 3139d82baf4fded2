"""Finding files by their names and by patterns of names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import NamedTuple

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from sage.errors import ConfigError

__all__ = ["FoundFile", "Paths", "existing_files", "find_files"]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_PATTERN = frozenset("*?[")


class FoundFile(NamedTuple):
    """A file that is there; its path is exact.

    Attributes:
        path: the file.
        size: its size (bytes, as stored).
    """

    path: str
    size: int


def existing_files(patterns: Paths, what: str = "input") -> list[str]:
    """Returns the files that match, sorted. To call while a pipeline is built: a typo then fails before anything runs.

    A ``str`` that is the exact name of a file is that file alone, also where there is ``*``, ``?`` or ``[`` in it.
    Otherwise it is a pattern, in which ``glob.escape(name)`` makes a part exact. A ``pathlib.Path`` is always one file.

    Args:
        patterns: paths or globs (``*``, ``**``, ``?``, ``[...]``) on any file system that Beam knows.
        what: what the files are, for the message of the error.

    Raises:
        ConfigError: a pattern matches no file, or a local file may not be read.
    """
    return [file.path for file in find_files(patterns, what)]


def find_files(patterns: Paths, what: str = "input") -> list[FoundFile]:
    """Returns the files that match with their sizes; see `existing_files`."""
    given = [patterns] if isinstance(patterns, (str, os.PathLike)) else list(patterns)
    if not given:
        raise ConfigError(f"no {what} files are named; give a path or a glob")
    found: dict[str, int] = {}
    for pattern in given:
        text = os.fspath(pattern)
        try:
            matched = _exactly(text) or ([] if isinstance(pattern, os.PathLike) else _matching(text))
        except (BeamIOError, ValueError) as error:
            raise ConfigError(f"{what} {text!r} cannot be listed: {error}") from error
        if not matched:
            raise ConfigError(_none_found(text, what, isinstance(pattern, os.PathLike)))
        for path, size in matched:
            if os.path.isdir(path):
                raise ConfigError(f"{what} {path!r} is a folder; name its files, as in '{path.rstrip('/')}/*'")
            if os.path.exists(path) and not os.access(path, os.R_OK):
                raise ConfigError(f"{what} file {path!r} may not be read by this user; check its permissions")
            found[path] = size
    return [FoundFile(path, size) for path, size in sorted(found.items())]


def _exactly(path: str) -> list[FoundFile]:
    """Returns the file of exactly this name, if there is one."""
    if "://" not in path:
        return [FoundFile(path, os.path.getsize(path))] if os.path.isfile(path) else []
    if _PATTERN.isdisjoint(path):
        return []  # the pattern can match this name only
    files = FileSystems.get_filesystem(path)
    return [FoundFile(path, files.metadata(path).size_in_bytes)] if files.exists(path) else []


def _matching(pattern: str) -> list[FoundFile]:
    with warnings.catch_warnings():
        # Of the "[[]" that glob.escape makes, the regular expression that Beam makes of a pattern warns.
        warnings.simplefilter("ignore", FutureWarning)
        return [FoundFile(file.path, file.size_in_bytes) for file in FileSystems.match([pattern])[0].metadata_list]


def _none_found(pattern: str, what: str, exact: bool) -> str:
    message = f"no {what} file matches {pattern!r} (looked from {os.getcwd()}). "
    if exact and not _PATTERN.isdisjoint(pattern):
        return message + "A pathlib.Path is the name of one file; give a str for a pattern."
    if "[" in pattern:
        message += "In a pattern [...] is one of the characters between; glob.escape(name) makes a name exact. "
    return message + "Check the path; quote globs so that the shell does not expand them."
