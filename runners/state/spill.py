"""Spilled values in files that have no name, so that nothing is left behind even by a process that is killed."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from typing import Any

from sage.errors import Fault, SageError

AREA_BYTES = 256 << 20


class SpillError(SageError, OSError):
    """The disk did not take, or give back, what does not fit in memory."""

    fault = Fault.ENVIRONMENT
    retryable = True


class FileArea:
    """One unnamed file.

    State: the file, and how much is in it. It goes away with the object, or when the store is closed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        # It stays open as long as the object lives.
        self._file: Any = tempfile.TemporaryFile(prefix="sage-spill-", dir=directory, buffering=0)  # noqa: SIM115
        self.size = 0

    def append(self, data: bytes) -> int:
        """Stores a piece; gives its place (bytes from the start).

        Raises:
            SpillError: the file cannot be written, as when the disk is full.
        """
        place, view = self.size, memoryview(data)
        with self._lock:
            self._check()
            try:
                self._file.seek(place)
                while view:
                    view = view[self._file.write(view) :]
            except OSError as error:
                raise SpillError(
                    f"cannot spill to {self._directory}: {error.strerror or error}. "
                    "Give a folder with more room with --spill_dir, or a higher --memory_limit"
                ) from error
        self.size = place + len(data)
        return place

    def read(self, place: int, size: int) -> bytes:
        """The ``size`` bytes at a place.

        Raises:
            SpillError: the job has ended, or the file cannot be read.
        """
        parts, left = [], size
        with self._lock:
            self._check()
            try:
                self._file.seek(place)
                while left:
                    part = self._file.read(left)
                    if not part:
                        raise OSError(f"{left} of {size} bytes are missing at {place}")
                    parts.append(part)
                    left -= len(part)
            except OSError as error:
                raise SpillError(f"cannot read what was spilled to {self._directory}: {error}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check(self) -> None:
        if self._file.closed:
            raise SpillError(
                "these values were on disk and went away with their job: copy what you want to keep, with list(values)"
            )

    def close(self) -> None:
        """Gives the space back."""
        with self._lock:
            self._file.close()


class FileSpillStore:
    """Files in one folder, each of about `AREA_BYTES`; one that nobody refers to any more is gone.

    Args:
        directory: where the files are; None for the system's temporary folder. It is made if it is not there.

    Raises:
        SpillError: the folder cannot be made or written to.
    """

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory or tempfile.gettempdir()
        self._current: FileArea | None = None
        self._areas: weakref.WeakSet[FileArea] = weakref.WeakSet()

    def area(self) -> FileArea:
        """The area to write to."""
        if self._current is None or self._current.size >= AREA_BYTES:
            try:
                os.makedirs(self._directory, exist_ok=True)
                self._current = FileArea(self._directory)
            except OSError as error:
                raise SpillError(
                    f"cannot spill to {self._directory}: {error.strerror or error}. "
                    "Name a folder that can be written to with --spill_dir"
                ) from error
            self._areas.add(self._current)
        return self._current

    def close(self) -> None:
        """Gives all space back; what is on disk cannot be read any more."""
        self._current = None
        for area in list(self._areas):
            area.close()
