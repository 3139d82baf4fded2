"""A folder to write into, on a local disk or on any file system that fsspec knows.

A file is written under a hidden name, made safe (`Folder.seal`) and then given its own name (`Folder.publish`).

On a local disk, sealing is an fsync and publishing a rename, which is atomic; the folder is synced too, so that the
name survives a power failure. On an object store, sealing completes the upload and publishing is a copy on the server
and a deletion: an object appears whole or not at all, and a copy that was cut short is made again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from sage.errors import ConfigError

__all__ = ["Folder", "cannot_write", "naming_file", "not_stored", "parent_and_name", "writing"]

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, or write somewhere else, and start the job again",
    errno.EDQUOT: "the disk quota is used up; free some space, or write somewhere else, and start the job again",
    errno.EACCES: "this user may not write there; change the permissions, or write somewhere else",
    errno.EPERM: "this user may not write there; change the permissions, or write somewhere else",
    errno.EROFS: "the file system is read-only; write somewhere else",
    errno.ENOTDIR: "a part of the path is a file, not a folder; remove it, or write somewhere else",
    errno.EEXIST: "a file is where a folder is needed; remove it, or write somewhere else",
    errno.EISDIR: "a folder is where a file is needed; remove it, or write somewhere else",
    errno.EMFILE: "this process has too many open files; raise `ulimit -n`, or write to fewer destinations at a time",
}


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Makes what the block raises of the system an ``OSError`` that names the path, the cause and what to do."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def naming_file(path: str) -> Iterator[None]:
    """Adds the path to what the block raises of an element that the file cannot store."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise not_stored(path, error) from error


def not_stored(path: str, error: Exception) -> Exception:
    """Returns the error of a file about an element that it cannot store."""
    if isinstance(error, ConfigError):
        return error
    where = f"file {path!r}: " if path else ""
    return (TypeError if isinstance(error, TypeError) else ValueError)(f"{where}{error}")


def cannot_write(path: str, error: OSError) -> OSError:
    """The error that names the path, the cause and what to do; a plain ``OSError`` with the ``errno`` of the cause."""
    advice = _ADVICE.get(error.errno or 0, "")
    cause = os.strerror(error.errno) if error.errno else str(error)
    named = OSError(f"cannot write to {path!r}: {cause}" + (f" ({advice})" if advice else ""))
    named.errno = error.errno
    return named


def parent_and_name(path: str) -> tuple[str, str]:
    """The folder of a file and the file's name in it: ``("s3://bucket/a", "b.txt")`` of ``"s3://bucket/a/b.txt"``."""
    separators = "/" if "://" in path else "/" + os.sep
    cut = max(path.rfind(separator) for separator in separators)
    return (path[: cut + 1], path[cut + 1 :]) if cut >= 0 else (".", path)


class Folder:
    """A folder, and the files in it by their names relative to it (with ``/`` between their parts).

    State: which folders below it are known to be there.

    Args:
        path: a local path, or a URL that fsspec understands, as ``s3://bucket/folder``.

    Raises:
        ConfigError: no installed package knows this kind of path.
    """

    def __init__(self, path: str) -> None:
        try:
            if "://" in path:
                self._fs, self._root = fsspec.core.url_to_fs(path)
            else:
                # A local name is taken as it is: fsspec would take "::" in it for a chain of file systems.
                self._fs, self._root = LocalFileSystem(), LocalFileSystem._strip_protocol(path)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"{path!r} cannot be written to: {error}") from error
        self.path = path.rstrip("/") or path
        self.local = isinstance(self._fs, LocalFileSystem)
        self._made: set[str] = set()
        self._root = self._root.rstrip("/") or "/"

    def create(self, name: str) -> BinaryIO:
        """A new file to write to; one of this name is replaced. Folders are made."""
        with writing(self._shown(name)):
            self._make_parent(name)
            if self.local:
                return open(self._full(name), "wb", buffering=1 << 16)
            file: BinaryIO = self._fs.open(self._full(name), "wb")
            return file

    def append(self, name: str) -> BinaryIO:
        """A local file that is there, to write to its end."""
        with writing(self._shown(name)):
            return open(self._full(name), "ab", buffering=1 << 16)

    def seal(self, name: str, file: BinaryIO) -> None:
        """Closes a file; when this returns, its bytes survive a failure of the machine."""
        with writing(self._shown(name)):
            if self.local:
                file.flush()
                os.fsync(file.fileno())
            file.close()

    def abandon(self, name: str, file: BinaryIO | None) -> None:
        """Closes a file that is not wanted, and removes what there is of it."""
        if file is not None:
            with contextlib.suppress(Exception):
                file.close()
        with contextlib.suppress(Exception):
            self.remove([name])

    def sync(self, names: Iterable[str]) -> None:
        """When this returns, the names of these files survive a failure of the machine."""
        if not self.local:
            return
        for parent in sorted({os.path.dirname(self._full(name)) for name in names}):
            with writing(parent):
                _sync_folder(parent)

    def publish(self, renames: Sequence[tuple[str, str]]) -> list[str]:
        """Gives sealed files their own names. May be called again for files that have them.

        Args:
            renames: the hidden name and the name of each file.

        Returns:
            The names for which there is neither the hidden file nor the file.
        """
        missing: list[str] = []
        touched: list[str] = []
        for hidden, name in renames:
            with writing(self._shown(name)):
                self._make_parent(name)
                try:
                    if self.local:
                        os.replace(self._full(hidden), self._full(name))
                    else:
                        self._move(self._full(hidden), self._full(name))
                    touched += [hidden, name]
                except FileNotFoundError:
                    # Renamed before, perhaps by somebody who did not come to the sync; else it is nowhere.
                    (touched if self.exists(name) else missing).append(name)
        self.sync(touched)
        return missing

    def _move(self, source: str, target: str) -> None:
        """Moves one file. What fsspec itself moves by copying and removing takes the names for patterns."""
        if type(self._fs).mv is not AbstractFileSystem.mv:
            self._fs.mv(source, target)
            return
        self._fs.cp_file(source, target)
        self._fs.rm_file(source)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        if not self.local:
            self._fs.invalidate_cache()
        return bool(self._fs.exists(self._full(name)))

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; one that is not there is no error."""
        for name in names:
            with writing(self._shown(name)), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._full(name))

    def remove_folder(self, name: str) -> None:
        """Removes a folder below this one if it is empty."""
        if self.local:
            with contextlib.suppress(OSError):
                os.rmdir(self._full(name))
        self._made.discard(os.path.dirname(self._full(name + "/x")))

    def files(self, below: str = "") -> list[str]:
        """The names of all files below a folder, with those in its folders, sorted; none if it is not there."""
        start = self._full(below) if below else self._root
        if self.local:
            # fsspec asks for the size of each file, which takes ten times as long.
            found = [f"{folder}/{name}" for folder, _, names in os.walk(start) for name in names]
        else:
            self._fs.invalidate_cache()
            with writing(self._shown(below)):
                found = self._fs.find(start)
        return sorted(path[len(self._root) :].lstrip("/") for path in found)

    def read(self, name: str) -> bytes | None:
        """What is in a file; None if there is none."""
        try:
            return bytes(self._fs.cat_file(self._full(name)))
        except FileNotFoundError:
            return None

    def replace(self, name: str, chunks: Iterable[bytes], hidden: str | None = None) -> None:
        """Writes a whole file under a hidden name and renames it: there is the old one or the new one, never a part.

        Args:
            name: the file.
            chunks: what is to be in it.
            hidden: the hidden name. By default one that nobody else has: two workers that try the same step must not
                write into one file.
        """
        if hidden is None:
            parent, _, last = name.rpartition("/")
            hidden = f"{parent}/" * bool(parent) + f".{last}.{uuid.uuid4().hex}.tmp"
        file = self.create(hidden)
        try:
            with writing(self._shown(name)):
                for chunk in chunks:
                    file.write(chunk)
            self.seal(hidden, file)
            self.publish([(hidden, name)])
        except BaseException:
            self.abandon(hidden, file)
            raise

    def _make_parent(self, name: str) -> None:
        parent = os.path.dirname(self._full(name))
        if self.local:
            self._make_local(parent)
        elif parent not in self._made:
            self._fs.makedirs(parent, exist_ok=True)
            self._made.add(parent)

    def _make_local(self, path: str) -> None:
        """Makes a folder and those above it, each so that it survives a failure of the machine."""
        above = os.path.dirname(path)
        if path in self._made or above == path:
            return
        self._make_local(above)
        if os.path.isdir(path):
            # A moment before a crash it may have been made, by this job. What others made may not be ours to read.
            with contextlib.suppress(PermissionError):
                _sync_folder(above)
        else:
            try:
                os.mkdir(path)
            except FileExistsError:
                # Another worker was faster, or a file is in the way.
                if not os.path.isdir(path):
                    raise
            _sync_folder(above)
        self._made.add(path)

    def _full(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _shown(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self.path,)


def _sync_folder(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
