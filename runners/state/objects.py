"""Where checkpoints are kept, as named objects: a local folder, or any path that fsspec knows.

An object is there whole or not at all, and is there to stay when the call that made it returns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from typing import Any, Protocol

from sage.errors import ConfigError


class ObjectStore(Protocol):
    """Objects below one path; a name has parts, with slashes between them.

    Every method may raise an ``OSError``; what is not there is a ``FileNotFoundError``.
    """

    url: str

    def put(self, name: str, data: bytes) -> None:
        """Makes an object, or puts it in place of the one of that name."""

    def create(self, name: str, data: bytes) -> None:
        """Makes an object; a ``FileExistsError`` if there is one of that name."""

    def upload(self, name: str, path: str) -> int:
        """Makes an object of a local file that never changes; gives its size (bytes)."""

    def download(self, name: str, path: str) -> None:
        """Makes a local file of an object; it may be changed."""

    def copy(self, name: str, target: str) -> None:
        """Makes another object of an object that never changes."""

    def get(self, name: str) -> bytes:
        """What an object holds."""

    def size(self, name: str) -> int:
        """How much an object holds (bytes)."""

    def ensure_durable(self, name: str) -> None:
        """Sees to it that an object stays: whoever made it may have died before it could."""

    def names(self) -> list[str]:
        """The names of all objects, in order."""

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""

    def lock(self, name: str) -> None:
        """Locks the objects against other processes while this one lives, where that can be done.

        Raises:
            BlockingIOError: another has locked them.
        """

    def unlock(self) -> None:
        """Gives the lock back."""


def objects_at(path: str) -> ObjectStore:
    """The objects below a path: a local folder, or a URL of a file system that fsspec knows.

    Raises:
        ConfigError: fsspec does not know the file system, or lacks its library.
    """
    scheme, separator, rest = path.partition("://")
    if not separator or scheme == "file":
        return LocalObjectStore(rest if separator else path)
    return RemoteObjectStore(path)


class Disk:
    """What a file system can do, one call each. Nothing is sure to outlive a crash of the machine before its sync."""

    def write(self, path: str, data: bytes) -> None:
        """A file with this content."""
        with open(path, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]

    def sync(self, path: str) -> None:
        """The content of a file, or the names in a folder, outlive a crash."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, path: str, target: str) -> None:
        """Another name for a file, at once, also where there is one of that name."""
        os.replace(path, target)

    def link(self, path: str, target: str) -> None:
        """A second name for a file; a ``FileExistsError`` if there is one of that name."""
        os.link(path, target)

    def copy(self, path: str, target: str) -> None:
        """A second file with the same content."""
        shutil.copyfile(path, target)

    def make(self, path: str) -> None:
        """A folder."""
        os.mkdir(path)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that name."""
        return os.path.isdir(path)

    def read(self, path: str) -> bytes:
        """The content of a file."""
        with open(path, "rb") as file:
            return file.read()

    def size(self, path: str) -> int:
        """The size of a file (bytes)."""
        return os.stat(path).st_size

    def files(self, path: str) -> list[str]:
        """The files in a folder and in those below it."""
        return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]

    def remove(self, path: str) -> None:
        """A file is gone, and the folders around it that are empty then."""
        os.unlink(path)
        with contextlib.suppress(OSError):
            os.removedirs(os.path.dirname(path))

    def lock(self, path: str) -> Any:
        """Locks a file until the result is closed, or this process ends, however it does."""
        import fcntl

        file = open(path, "wb")  # noqa: SIM115 # it is locked as long as it is open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file


class LocalObjectStore:
    """Files in a folder: each is written under another name, synced, and renamed.

    Args:
        path: the folder; made with the first object.
        disk: the file system.
        mark: what tells files that are being made from those of others; None for one that nobody else has.
    """

    def __init__(self, path: str, disk: Disk | None = None, mark: str | None = None) -> None:
        self.url = os.path.abspath(path)
        self._disk = disk or Disk()
        self._mark = uuid.uuid4().hex[:8] if mark is None else mark
        self._made = {"/"}
        self._lock: Any = None

    def _path(self, name: str) -> str:
        return os.path.join(self.url, *name.split("/"))

    def _place(self, name: str) -> tuple[str, str]:
        """The path of an object, whose folder is made, and a path beside it for its making."""
        path = self._path(name)
        self._make_folder(os.path.dirname(path))
        return path, f"{path}.{self._mark}.tmp"

    def _make_folder(self, path: str) -> None:
        """Makes a folder that is there to stay; one that is there may have been made a moment before a crash."""
        if path in self._made:
            return
        above = os.path.dirname(path)
        self._make_folder(above)
        if not self._disk.is_folder(path):
            with contextlib.suppress(FileExistsError):
                self._disk.make(path)
            self._disk.sync(above)
        else:
            with contextlib.suppress(PermissionError):  # what others made may not be ours to read
                self._disk.sync(above)
        self._made.add(path)

    def put(self, name: str, data: bytes) -> None:
        path, temporary = self._place(name)
        self._disk.write(temporary, data)
        self._settle(temporary, path)

    def _settle(self, temporary: str, path: str) -> None:
        self._disk.sync(temporary)
        self._disk.rename(temporary, path)
        self._disk.sync(os.path.dirname(path))

    def create(self, name: str, data: bytes) -> None:
        path, temporary = self._place(name)
        self._disk.write(temporary, data)
        self._disk.sync(temporary)
        try:
            self._disk.link(temporary, path)
        finally:
            self._disk.remove(temporary)
        self._disk.sync(os.path.dirname(path))

    def upload(self, name: str, path: str) -> int:
        target, temporary = self._place(name)
        self._link_or_copy(path, temporary)
        self._settle(temporary, target)
        return self._disk.size(target)

    def _link_or_copy(self, path: str, target: str) -> None:
        try:
            self._disk.link(path, target)
        except OSError:  # another file system, or one without links
            self._disk.copy(path, target)

    def download(self, name: str, path: str) -> None:
        self._disk.copy(self._path(name), path)

    def copy(self, name: str, target: str) -> None:
        self.upload(target, self._path(name))

    def get(self, name: str) -> bytes:
        return self._disk.read(self._path(name))

    def size(self, name: str) -> int:
        return self._disk.size(self._path(name))

    def ensure_durable(self, name: str) -> None:
        path = self._path(name)
        self._disk.sync(path)
        self._disk.sync(os.path.dirname(path))

    def names(self) -> list[str]:
        found = (os.path.relpath(path, self.url) for path in self._disk.files(self.url))
        return sorted(path.replace(os.sep, "/") for path in found)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(self._path(name))

    def lock(self, name: str) -> None:
        path, _ = self._place(name)
        self._lock = self._disk.lock(path)

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class RemoteObjectStore:
    """Objects of a file system that fsspec knows: one put each, which such stores make whole or not at all."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url.rstrip("/")
        try:
            self._system, self._root = url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"checkpoints cannot be kept at {url}: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def put(self, name: str, data: bytes) -> None:
        self._make_folder(name)
        self._system.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> None:
        self._make_folder(name)
        self._system.pipe_file(self._path(name), data, mode="create")

    def _make_folder(self, name: str) -> None:
        """For file systems that have folders; those that have none do nothing."""
        self._system.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def upload(self, name: str, path: str) -> int:
        self._make_folder(name)
        self._system.put_file(path, self._path(name))
        return os.path.getsize(path)

    def download(self, name: str, path: str) -> None:
        self._system.get_file(self._path(name), path)

    def copy(self, name: str, target: str) -> None:
        self._make_folder(target)
        self._system.cp_file(self._path(name), self._path(target))

    def get(self, name: str) -> bytes:
        return bytes(self._system.cat_file(self._path(name)))

    def size(self, name: str) -> int:
        return int(self._system.info(self._path(name))["size"])

    def ensure_durable(self, name: str) -> None:
        """What can be read is there to stay."""

    def names(self) -> list[str]:
        self._system.invalidate_cache()
        root = self._system._strip_protocol(self._root)
        return sorted(path[len(root) :].lstrip("/") for path in self._system.find(root))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def lock(self, name: str) -> None:
        """Such stores have no locks: a token in the store tells who is to write."""

    def unlock(self) -> None:
        """There is no lock."""
