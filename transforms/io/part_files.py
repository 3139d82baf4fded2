"""Files that are written in turns: many at a time, of which few are open."""

from __future__ import annotations

import collections
import tempfile
from typing import Any, BinaryIO

from sage.transforms.io.storage import Folder

__all__ = ["PartFile", "PartFiles"]

_COPY_BYTES = 1 << 20


class PartFiles:
    """The files that one writer has begun in a folder and not sealed.

    A local file that was not written to for long is closed, and opened again to append. An object cannot be appended
    to: beyond the first ones, which are uploaded as they are written, objects wait in one temporary file of this
    machine, without a name, and are uploaded when they are sealed.

    State: up to ``max_open`` open files, and the temporary one.

    Args:
        folder: the folder.
        max_open: how many files are open at a time (count).
    """

    def __init__(self, folder: Folder, max_open: int) -> None:
        self._folder = folder
        self._max_open = max_open
        self._open: collections.OrderedDict[PartFile, BinaryIO] = collections.OrderedDict()
        self._waiting: Any = None

    def create(self, name: str) -> PartFile:
        """Returns a new file; one of this name is replaced."""
        part = PartFile(self, name)
        if self._folder.local:
            self._make_room()
        elif len(self._open) >= self._max_open:
            part.extents = []
            return part
        self._open[part] = self._folder.create(name)
        return part

    def write(self, part: PartFile, data: Any) -> None:
        """Appends to a file."""
        file = self._open.get(part)
        if part.extents is not None:
            if self._waiting is None:
                self._waiting = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the last of its parts)
            part.extents.append((self._waiting.seek(0, 2), self._waiting.write(data)))
            return
        if file is None:
            self._make_room()
            file = self._open[part] = self._folder.append(part.name)
        else:
            self._open.move_to_end(part)
        file.write(data)

    def seal(self, part: PartFile) -> None:
        """Closes a file for good; when this returns, its bytes survive a failure of the machine."""
        file = self._open.pop(part, None)
        if part.extents is not None:
            file = self._folder.create(part.name)
            for start, size in part.extents:
                self._waiting.seek(start)
                for at in range(0, size, _COPY_BYTES):
                    file.write(self._waiting.read(min(_COPY_BYTES, size - at)))
        self._folder.seal(part.name, file if file is not None else self._folder.append(part.name))

    def release(self) -> None:
        """Lets go of the temporary file. No part is begun that is not sealed."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def abandon(self, part: PartFile) -> None:
        """Closes a file that is not wanted, and removes what there is of it."""
        self._folder.abandon(part.name, self._open.pop(part, None))

    def _make_room(self) -> None:
        if len(self._open) >= self._max_open:
            _, file = self._open.popitem(last=False)
            file.close()


class PartFile:
    """One of the files: what a format writes to, as to a file that is open.

    Attributes:
        name: its name in the folder.
        extents: the places (start and length, bytes) of its data in the temporary file; None if it is written to
            directly.
    """

    closed = False

    def __init__(self, files: PartFiles, name: str) -> None:
        self._files = files
        self._size = 0
        self.name = name
        self.extents: list[tuple[int, int]] | None = None

    def write(self, data: Any) -> int:
        self._files.write(self, data)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """The file is flushed when it is sealed."""

    def close(self) -> None:
        """The file is closed when it is sealed."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
