"""A disk that forgets: what was written and not synced is there until the power fails."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sage.runners.simulation.fault_schedule import Crash, FaultSchedule
from sage.runners.state.objects import Disk


@dataclass
class _File:
    """The content of a file: what readers see, and what outlives a loss of power; None for nothing yet."""

    seen: bytes = b""
    safe: bytes | None = None


_Entry = _File | None
"""What a name stands for: a file; None for a folder."""


class SimulatedDisk(Disk):
    """A file system in memory.

    A loss of power leaves of each file that was not synced any beginning of it, and of the changes of names in each
    folder that were not synced any number of the first. Every call is a point at which a crash may come, and may fail
    like a disk that is full, if ``faults`` says so.

    State: the files and folders as they are seen, as they are safe, and by folder the changes between the two.
    """

    def __init__(self, schedule: FaultSchedule, faults: Callable[[], bool] = lambda: False) -> None:
        self._schedule = schedule
        self._faults = faults
        self._seen: dict[str, _Entry] = {"/": None}
        self._safe: dict[str, _Entry] = {"/": None}
        self._pending: dict[str, list[dict[str, _Entry | bool]]] = {}
        self.locked: set[str] = set()

    def lose_power(self) -> None:
        """All that is not safe is gone, or some of it."""
        for changes in self._pending.values():
            for change in changes[: self._schedule.upto(len(changes))]:
                _apply(self._safe, change)
        self._pending.clear()
        for path in sorted(self._safe):
            if path != "/" and self._safe.get(posixpath.dirname(path), False) is not None:
                del self._safe[path]  # its folder is gone
        for path, entry in sorted(self._safe.items()):
            if entry is not None and entry.safe != entry.seen:
                kept = entry.safe if entry.safe is not None and self._schedule.one_in(2) else None
                entry.seen = entry.seen[: self._schedule.upto(len(entry.seen))] if kept is None else kept
                self._schedule.note("torn", path)
            if entry is not None:
                entry.safe = entry.seen
        self._seen = dict(self._safe)

    def _point(self, what: str, path: str) -> None:
        self._schedule.point(what, path)
        if self._faults():
            self._schedule.note("fails", path)
            raise OSError(errno.ENOSPC, "No space left on device", path)

    def _change(self, folder: str, change: dict[str, _Entry | bool]) -> None:
        """Changes names of a folder, at once for who looks and later for good. False stands for no such name."""
        _apply(self._seen, change)
        self._pending.setdefault(folder, []).append(change)

    def _file(self, path: str) -> _File:
        entry = self._seen.get(path)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return entry

    def _in_folder(self, path: str) -> str:
        folder = posixpath.dirname(path)
        if not self.is_folder(folder):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", folder)
        return folder

    def write(self, path: str, data: bytes) -> None:
        try:
            self._point("write", path)
        except Crash:
            self._put(path, data[: self._schedule.upto(len(data))])
            raise
        self._put(path, data)

    def _put(self, path: str, data: bytes) -> None:
        entry = self._seen.get(path)
        if entry is None:
            entry = _File()
            self._change(self._in_folder(path), {path: entry})
        entry.seen = bytes(data)

    def append(self, path: str, data: bytes) -> None:
        """Writes behind what a file holds."""
        entry = self._seen.get(path)
        self.write(path, (b"" if entry is None else entry.seen) + data)

    def sync(self, path: str) -> None:
        self._point("sync", path)
        if self.is_folder(path):
            for change in self._pending.pop(path, ()):
                _apply(self._safe, change)
        else:
            entry = self._file(path)
            entry.safe = entry.seen

    def rename(self, path: str, target: str) -> None:
        self._point("rename", f"{path} {target}")
        entry, folder = self._file(path), self._in_folder(target)
        self._change(folder, {target: entry, path: False})

    def link(self, path: str, target: str) -> None:
        if path not in self._seen:
            raise OSError(errno.EXDEV, "Invalid cross-device link", path)
        self._point("link", f"{path} {target}")
        if target in self._seen:
            raise FileExistsError(errno.EEXIST, "File exists", target)
        self._change(self._in_folder(target), {target: self._file(path)})

    def copy(self, path: str, target: str) -> None:
        if path not in self._seen:
            self.write(target, super().read(path))  # from a real disk, as a store of state has one
        elif self.is_folder(posixpath.dirname(target)):
            self.write(target, self._file(path).seen)
        else:
            super().write(target, self._file(path).seen)

    def make(self, path: str) -> None:
        self._point("make", path)
        if path in self._seen:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self._change(self._in_folder(path), {path: None})

    def is_folder(self, path: str) -> bool:
        return self._seen.get(path, False) is None

    def read(self, path: str) -> bytes:
        return self._file(path).seen

    def size(self, path: str) -> int:
        return len(self._file(path).seen)

    def files(self, path: str) -> list[str]:
        return sorted(name for name, entry in self._seen.items() if entry is not None and name.startswith(f"{path}/"))

    def remove(self, path: str) -> None:
        self._point("remove", path)
        self._file(path)
        self._change(posixpath.dirname(path), {path: False})

    def lock(self, path: str) -> Any:
        if path in self.locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable", path)
        self.locked.add(path)
        return _Lock(self, path)


@dataclass
class _Lock:
    disk: SimulatedDisk
    path: str

    def close(self) -> None:
        self.disk.locked.discard(self.path)


def _apply(names: dict[str, _Entry], change: dict[str, Any]) -> None:
    for path, entry in change.items():
        if entry is False:
            names.pop(path, None)
        else:
            names[path] = entry
