"""How large values are, by a sample."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

SAMPLES = 8
VALUE_OVERHEAD = 16  # a slot in a list that grows, and what the allocator rounds up
KEY_OVERHEAD = 256  # the first list of a key, and its place in a table that is at most two thirds full
_FLAT = frozenset({bool, bytes, float, int, str, type(None)})


def approximate_size(value: Any, depth: int = 3) -> int:
    """Bytes of a value, its containers looked into a little way: a sample, not a census."""
    size = sys.getsizeof(value, 64)
    if value.__class__ in _FLAT:
        return size
    if depth and isinstance(value, tuple | list) and value:
        size += len(value) * approximate_size(value[-1], depth - 1)
    elif depth and isinstance(value, dict) and value:
        size += len(value) * sum(approximate_size(part, depth - 1) for part in next(iter(value.items())))
    elif depth and hasattr(value, "__dict__"):
        size += approximate_size(vars(value), depth - 1)
    return size


def size_of_pairs(pairs: Sequence[Any], fresh: int) -> int:
    """Bytes that key-value pairs add to a table, ``fresh`` of them with a key that was not there."""
    sample = pairs[:: max(1, len(pairs) // SAMPLES)]
    values = sum(approximate_size(value) for _, value in sample) // len(sample) + VALUE_OVERHEAD
    if not fresh:
        return values * len(pairs)
    keys = sum(approximate_size(key) for key, _ in sample) // len(sample) + KEY_OVERHEAD
    return values * len(pairs) + keys * fresh


def size_of_values(values: Sequence[Any]) -> int:
    """Bytes of a list of values, by a look at a few."""
    sample = values if len(values) <= SAMPLES else values[:: len(values) // SAMPLES]
    return sum(approximate_size(value) + VALUE_OVERHEAD for value in sample) * len(values) // max(1, len(sample))
