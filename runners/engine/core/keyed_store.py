"""Stores of keyed state: rows of bytes in order of their keys, handed in by the host, and how rows are laid out.

A row begins with its key group, so that a group is one range, which is what moves when a job changes its number of
workers. Inside a group the cells of windows that end earlier come first, so that those of windows that are over are one
range too::

    group (2) | "s" | end of the window (8) | window | key | state name | 0 | entry of a map

Window and key have their length before them; numbers are big-endian and without sign, so that bytes sort as they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

Ranges = Sequence[tuple[bytes, bytes]]
"""Rows from the first key on and before the second."""


class KeyedStore(Protocol):
    """The rows of one step at one worker. They need to last no longer than the worker: checkpoints are what lasts.

    ``cells_bytes`` is about what the step may hold of them in memory as objects (bytes).
    """

    cells_bytes: int

    def get(self, row: bytes) -> bytes | None:
        """The data of a row."""

    def put(self, row: bytes, data: bytes) -> None:
        """Writes a row."""

    def delete(self, row: bytes) -> None:
        """Removes a row, if it is there."""

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Writes rows, or removes those whose data is None; of two with the same place the later one stays."""

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Removes all rows from ``begin`` on and before ``end``."""

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows from ``begin`` on and before ``end``, in order, as they are when the first one is asked for."""

    def checkpoint(self) -> Mapping[str, str]:
        """The rows as files that never change, name to path; they stay until the next call."""

    def restore(self, files: Sequence[Mapping[str, str]], ranges: Ranges | None) -> None:
        """Takes the rows of stores that there were, before anything else is done with this one.

        Args:
            files: what `checkpoint` of each gave, with the paths of copies that may be used up.
            ranges: the rows to take; None for all.
        """


def group_ranges(groups: Iterable[int]) -> list[tuple[bytes, bytes]]:
    """All rows of key groups, which are in order; those of neighbours are one range."""
    ranges: list[tuple[bytes, bytes]] = []
    for group in groups:
        begin, end = group.to_bytes(2, "big"), (group + 1).to_bytes(2, "big")
        if ranges and ranges[-1][1] == begin:
            begin = ranges.pop()[0]
        ranges.append((begin, end))
    return ranges


def ordered(micros: int) -> bytes:
    """Eight bytes that sort as the number does."""
    return (micros + (1 << 63)).to_bytes(8, "big")


def number_of(data: bytes) -> int:
    """The number of which `ordered` made the bytes."""
    return int.from_bytes(data, "big") - (1 << 63)


def window_part(end: int, window: bytes) -> bytes:
    """The part of a row that is its window's: the end in microseconds, and the window's bytes."""
    return b"s" + ordered(end) + len(window).to_bytes(2, "big") + window


def cell_prefix(group: int, part: bytes, key: bytes) -> bytes:
    """What the rows of one key and window begin with; ``part`` is the window's."""
    return group.to_bytes(2, "big") + part + len(key).to_bytes(4, "big") + key


def ended_range(group: int, before: int) -> tuple[bytes, bytes]:
    """The cells of a key group whose windows end before an instant (microseconds)."""
    prefix = group.to_bytes(2, "big") + b"s"
    return prefix, prefix + ordered(before)


def after(prefix: bytes) -> bytes:
    """The end of the range of all rows that begin with ``prefix``, which ends with a byte below 255."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
