"""The simulated disk as the product's file sinks see it, and a simulated store of objects.

``simulated-disk:///out`` and ``simulated-objects:///out``. On the first, the sinks make the very calls that they make
on a real disk, to `os` and `open`; `in_place` has the simulated one answer them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import posixpath
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from sage.runners.simulation.world import World, world
from sage.transforms.io import storage

DISK, OBJECTS = "simulated-disk", "simulated-objects"
FOLDER = "/written"


class _Local(LocalFileSystem):
    """What the sinks ask fsspec where a path is local."""

    protocol = DISK
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{DISK}://")

    def exists(self, path: str, **_: Any) -> bool:
        return path in world().disk.files(posixpath.dirname(path))

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        return world().disk.read(path)

    def rm_file(self, path: str) -> None:
        world().disk.remove(path)


class _File(io.BytesIO):
    """A file that is open for writing: others see what was flushed."""

    def __init__(self, path: str, calls: _Calls) -> None:
        super().__init__()
        self.path = path
        self._calls = calls
        world().disk.write(path, b"")

    def flush(self) -> None:
        world().disk.write(self.path, self.getvalue())

    def fileno(self) -> int:
        return self._calls.open(self.path, os.O_RDONLY)


class _Calls(types.SimpleNamespace):
    """What `sage.transforms.io.storage` asks of `os`.

    State: what each descriptor stands for.
    """

    O_RDONLY, sep, strerror = os.O_RDONLY, os.sep, staticmethod(os.strerror)

    def __init__(self) -> None:
        super().__init__(
            path=types.SimpleNamespace(dirname=posixpath.dirname, isdir=lambda p: world().disk.is_folder(p))
        )
        self._open: list[str] = []

    def open(self, path: str, flags: int) -> int:
        self._open.append(path)
        return len(self._open) - 1

    def close(self, descriptor: int) -> None:
        """Descriptors are not given again."""

    def fsync(self, descriptor: int) -> None:
        world().disk.sync(self._open[descriptor])

    def replace(self, path: str, target: str) -> None:
        world().disk.rename(path, target)

    def mkdir(self, path: str) -> None:
        world().disk.make(path)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        for file in world().disk.files(path):
            yield posixpath.dirname(file), [], [posixpath.basename(file)]


def _objects() -> dict[str, bytes]:
    held: dict[str, bytes] = world().outside.setdefault(OBJECTS, {})
    return held


class _Objects(AbstractFileSystem):
    """A store of objects: each is there whole or not at all, and stays; a move is a copy and a removal."""

    protocol = OBJECTS
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{OBJECTS}://")

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return _Upload(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """There are no folders."""

    def exists(self, path: str, **_: Any) -> bool:
        return path in _objects()

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        if path not in _objects():
            raise FileNotFoundError(path)
        return _objects()[path]

    def find(self, path: str, *_: Any, **__: Any) -> list[str]:
        return sorted(name for name in _objects() if name.startswith(f"{path}/"))

    def rm_file(self, path: str) -> None:
        world().schedule.point("remove", path)
        if _objects().pop(path, None) is None:
            raise FileNotFoundError(path)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        data = self.cat_file(path1)
        world().schedule.point("write", path2)
        _objects()[path2] = data
        self.rm_file(path1)


class _Upload(io.BytesIO):
    """An object that appears when the file is closed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            world().schedule.point("write", self._path)
            _objects()[self._path] = data


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """The file sinks can write to these file systems."""
    fsspec.register_implementation(DISK, _Local, clobber=True)
    fsspec.register_implementation(OBJECTS, _Objects, clobber=True)
    calls = _Calls()
    storage.os, storage.open = calls, lambda path, *_, **__: _File(path, calls)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        storage.os = os
        del storage.open  # type: ignore[attr-defined]


def read_parts(world: World) -> Counter[Any]:
    """The rows of JSON in the parts that were committed, on the disk and in the store."""
    objects: dict[str, bytes] = world.outside.get(OBJECTS, {})
    disk = {name: world.disk.read(name) for name in world.disk.files(FOLDER)}
    return Counter(row for name, data in {**disk, **objects}.items() for row in _rows(name, data))


def _rows(name: str, data: bytes) -> Iterable[str]:
    folder, file = posixpath.split(name)
    return (f"{folder} {json.loads(row)}" for row in data.splitlines()) if file.startswith("part-") else ()
