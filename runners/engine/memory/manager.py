"""Memory of groupings: who holds how much, and who puts how much aside when it is too much for a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from sage.runners.engine.core.sizes import SAMPLES, approximate_size, size_of_values


class SpillArea(Protocol):
    """Bytes that are written once, one piece after another, and read by their place.

    An area lives as long as somebody refers to it; when nobody does, its space is free again.
    """

    def append(self, data: bytes) -> int:
        """Stores a piece; gives the place (bytes from the start) to read it from."""

    def read(self, place: int, size: int) -> bytes:
        """The ``size`` bytes at a place; may be called again, and while others read."""


class SpillStore(Protocol):
    """Where a worker puts what does not fit in its memory."""

    def area(self) -> SpillArea:
        """The area to write to; one area may serve many callers."""


class MemoryConsumer(Protocol):
    """Somebody who holds values in memory and can put them into a `SpillStore`.

    ``held`` is what it would free (bytes, an estimate); `MemoryManager` keeps it.
    """

    used_bytes: int

    def spill(self) -> None:
        """Puts all it can into the store, and tells `MemoryManager` what that freed."""


class MemoryManager:
    """What all groupings of one worker hold together, and the limit of it.

    Args:
        limit: what the worker may take for them (bytes), of which they hold three quarters; None for no limit.
        store: where they put what is more; None if there is no such place, and then there is no limit either.
    """

    def __init__(self, limit: int | None = None, store: SpillStore | None = None) -> None:
        self.limited = limit is not None and store is not None
        # The rest is for blocks on their way, pages that are read, and what the allocator cannot give back.
        self._limit = (limit or 0) * 3 // 4
        self._store = store
        self._consumers: list[MemoryConsumer] = []
        self.total = 0
        # A run shorter than this is not worth its page in every merge: its holder may stay a little over.
        self._least = self._limit // 16
        self.page_bytes = max(256, min(1 << 18, self._limit // 256))
        self.list_bytes = 16 * self.page_bytes

    def area(self) -> SpillArea:
        """The area to write to."""
        assert self._store is not None, "only a limited memory has a store"
        return self._store.area()

    def register(self, tenant: MemoryConsumer) -> None:
        """Takes somebody in who will hold values."""
        tenant.used_bytes = 0
        self._consumers.append(tenant)

    def grow(self, tenant: MemoryConsumer, size: int) -> None:
        """A tenant took ``size`` more bytes; whoever holds most sheds them if it is too much now."""
        tenant.used_bytes += size
        self.total += size
        while self.total > self._limit:
            largest = max(self._consumers, key=_used_bytes)
            before = largest.used_bytes
            if before <= self._least:
                return
            largest.spill()
            if largest.used_bytes >= before:
                return

    def shrink(self, tenant: MemoryConsumer, size: int) -> None:
        """A tenant let go of ``size`` bytes."""
        tenant.used_bytes -= size
        self.total -= size

    def begin_release(self, tenant: MemoryConsumer, size: int) -> None:
        """``size`` bytes of a tenant are on their way out: they are still there, but it cannot shed them any more."""
        tenant.used_bytes -= size

    def end_release(self, size: int) -> None:
        """``size`` bytes that were lent are gone."""
        self.total -= size


def _used_bytes(tenant: MemoryConsumer) -> int:
    return tenant.used_bytes


def pieces(rows: Iterable[Any], most: int, target: int) -> Iterator[list[Any]]:
    """Keyed rows in lists of at most ``most`` rows and about ``target`` bytes."""
    piece: list[Any] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += approximate_size(row[1])
        if size >= target or len(piece) >= most:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def cut(rows: list[Any], target: int) -> Iterator[list[Any]]:
    """The same for rows that are there already: small ones stay one list, which a look at a few of them tells."""
    sample = [row[1] for row in rows[:: max(1, len(rows) // SAMPLES)]]
    if size_of_values(sample) * len(rows) <= target * len(sample):
        yield rows
    else:
        yield from pieces(rows, len(rows), target)
