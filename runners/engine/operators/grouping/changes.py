"""Tables in two layers: what the last snapshot holds, and what came since.

Who gathers writes to the fresh layer only, so that what changed costs nothing to know: it is that layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sage.runners.engine.memory.manager import MemoryManager, SpillArea

Table = dict[Any, list[Any]]


def fold(base: Table, fresh: Table, joined: Callable[[list[Any], list[Any]], list[Any]]) -> Table:
    """One table of two layers, for which both are used up; ``joined`` makes one list of a key's two."""
    if not base:
        return fresh
    for identity, values in fresh.items():
        contents = base.get(identity)
        base[identity] = values if contents is None else joined(contents, values)
    return base


def extended(contents: list[Any], values: list[Any]) -> list[Any]:
    """The first list with the second behind it, in place."""
    contents += values
    return contents


class Changes:
    """Changes that left memory before a snapshot could take them, as bytes, on disk and in order."""

    def __init__(self, memory: MemoryManager) -> None:
        self._memory = memory
        self._parts: list[tuple[SpillArea, int, int]] = []

    def put(self, data: bytes) -> None:
        """Keeps a change."""
        area = self._memory.area()
        self._parts.append((area, area.append(data), len(data)))

    def take(self) -> list[bytes]:
        """Takes all out."""
        parts, self._parts = self._parts, []
        return [area.read(place, size) for area, place, size in parts]
