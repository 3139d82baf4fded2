"""A spill store in memory, which knows what is still referred to."""

from __future__ import annotations

import weakref


class MemoryArea:
    """Bytes in a bytearray."""

    def __init__(self) -> None:
        self.data = bytearray()

    def append(self, data: bytes) -> int:
        place = len(self.data)
        self.data += data
        return place

    def read(self, place: int, size: int) -> bytes:
        assert place + size <= len(self.data)
        return bytes(self.data[place : place + size])


class MemoryStore:
    """Gives every caller an area of its own, so that none outlives its use unseen."""

    def __init__(self) -> None:
        self.areas: weakref.WeakSet[MemoryArea] = weakref.WeakSet()
        self.written = 0

    def area(self) -> MemoryArea:
        area = MemoryArea()
        self.areas.add(area)
        self.written += 1
        return area
