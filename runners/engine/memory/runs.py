"""Runs: tables of a grouping on disk, and the merge that gives their groups back one after another.

A run is one table in the order of its identities' hashes, in pages. All runs of a window have that order, so a merge
holds one page of each. Hashes are those of this process, which is the only one to read a run.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from apache_beam import coders

from sage.runners.engine.core.sizes import size_of_values
from sage.runners.engine.memory.manager import MemoryManager, SpillArea
from sage.runners.engine.serde.values import Codec

LOADED_OVERHEAD = 48  # what a small value takes in memory above its bytes on disk


class Run:
    """One table on disk: an area, and the places and sizes of its pages."""

    __slots__ = ("area", "places", "sizes")

    def __init__(self, area: SpillArea) -> None:
        self.area = area
        self.places = array("Q")
        self.sizes = array("Q")

    def append(self, data: bytes) -> None:
        """Stores the next page."""
        self.places.append(self.area.append(data))
        self.sizes.append(len(data))


def write_run(table: dict[Any, list[Any]], key_of: Callable[[Any], Any], codec: Codec, memory: MemoryManager) -> Run:
    """Moves a table into a run; the table is empty afterwards.

    A group larger than a page goes before its page in chunks of its own, and the page holds their places.
    """
    run, page_bytes = Run(memory.area()), memory.page_bytes
    identities: list[Any] = []
    groups: list[Any] = []
    size, last = 0, None

    def flush() -> None:
        own = any(identity.__class__ is tuple for identity in identities)
        run.append(codec.pack(identities, list(map(key_of, identities)) if own else None, groups))

    for identity in sorted(table, key=hash):
        # Equal hashes stay on one page: a merge must see both sides of a tie at once.
        if size >= page_bytes and hash(identity) != last:
            flush()
            identities, groups, size = [], [], 0
        values = table.pop(identity)
        weight = codec.weigh(values)
        if weight > page_bytes:
            groups.append(_write_chunks(values, weight, run.area, codec, page_bytes))
            weight = 100
        else:
            groups.append(values)
        identities.append(identity)
        size += weight
        last = hash(identity)
    if identities:
        flush()
    return run


def _write_chunks(values: list[Any], weight: int, area: SpillArea, codec: Codec, page_bytes: int) -> tuple[Any, ...]:
    places, sizes = array("Q"), array("Q")
    rows = max(1, len(values) * page_bytes // weight)
    start = 0
    while start < len(values):
        data = codec.pack_values(values[start : start + rows])
        start += rows
        places.append(area.append(data))
        sizes.append(len(data))
        # The estimate came from a few values; the bytes written say how wrong it was.
        rows = max(1, min(rows * 2, rows * page_bytes // len(data)))
    return len(values), places, sizes


class _Chunks:
    """Values of one group on disk."""

    __slots__ = ("area", "codec", "count", "places", "sizes")

    def __init__(self, codec: Codec, area: SpillArea, group: tuple[Any, ...]) -> None:
        self.codec = codec
        self.area = area
        self.count, self.places, self.sizes = group

    def __len__(self) -> int:
        return int(self.count)

    def __iter__(self) -> Iterator[Any]:
        for place, size in zip(self.places, self.sizes, strict=True):
            yield from self.codec.unpack_values(self.area.read(place, size))

    @property
    def weight(self) -> int:
        return int(sum(self.sizes) + LOADED_OVERHEAD * self.count)


class SpilledValues:
    """The values of a key, too many for memory: each walk over them reads them from disk, and there may be many.

    Where it is encoded, it becomes a list. It can be read while the job runs.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __sizeof__(self) -> int:
        # What of it is in memory: the pieces that shared a page with other groups.
        lists = sum(size_of_values(part) for part in self._parts if part.__class__ is list)
        return object.__sizeof__(self) + lists + sum(map(sys.getsizeof, self._parts))

    def __repr__(self) -> str:
        return f"<{len(self)} values on disk>"


coders.FastPrimitivesCoder().get_impl().register_iterable_like_type(SpilledValues)


class _Reader:
    """A place in a run: one page in memory."""

    def __init__(self, run: Run, codec: Codec) -> None:
        self._run = run
        self._codec = codec
        self._next = 0
        self._position = 0
        self._hashes: list[int] = []

    def load(self) -> bool:
        """Sees that there is something in memory; False at the end of the run."""
        if self._position < len(self._hashes):
            return True
        run = self._run
        if self._next == len(run.places):
            return False
        size = run.sizes[self._next]
        self._identities, self._keys, self._groups = self._codec.unpack(run.area.read(run.places[self._next], size))
        self._hashes = list(map(hash, self._identities))
        self._position = 0
        self._next += 1
        return True

    @property
    def last(self) -> int:
        """The highest hash in memory."""
        return self._hashes[-1]

    def take(self, bound: int, found: dict[Any, list[Any]], keys: dict[Any, Any]) -> None:
        """Moves the groups whose hash is at most ``bound``, and their keys, to what was found."""
        start = self._position
        end = self._position = bisect_right(self._hashes, bound, start)
        identities, groups = self._identities, self._groups
        for index in range(start, end):
            group = groups[index]
            part = group if group.__class__ is list else _Chunks(self._codec, self._run.area, group)
            groups[index] = None
            found.setdefault(identities[index], []).append(part)
        if self._keys is not None:
            for index in range(start, end):
                keys.setdefault(identities[index], self._keys[index])


def merge_runs(runs: Iterable[Run], codec: Codec, list_bytes: int) -> Iterator[tuple[Any, Any]]:
    """The groups of runs, each key once, with its values in the order of the runs.

    Values are a list, or, where that would take more than ``list_bytes``, `SpilledValues`.
    """
    readers = [_Reader(run, codec) for run in runs]
    while readers := [reader for reader in readers if reader.load()]:
        bound = min(reader.last for reader in readers)
        found: dict[Any, list[Any]] = {}
        keys: dict[Any, Any] = {}
        for reader in readers:
            reader.take(bound, found, keys)
        for identity, parts in found.items():
            key = keys[identity] if identity.__class__ is tuple else identity
            yield key, parts[0] if parts[0].__class__ is list and len(parts) == 1 else _join(parts, list_bytes)
            parts.clear()


def _join(parts: list[Any], list_bytes: int) -> Any:
    if sum(part.weight for part in parts if part.__class__ is _Chunks) > list_bytes:
        return SpilledValues(list(parts))
    return [value for part in parts for value in part]
