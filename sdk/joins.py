"""Joining two keyed collections: Beam's CoGroupByKey, then the pairs of each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import typehints

from sage.checks import suggestion
from sage.errors import ConfigError

__all__ = ["JOINS", "Join", "kv_types", "sides"]

JOINS = ("inner", "left", "right", "full")


def kv_types(pcollection: beam.PCollection) -> tuple[Any, Any]:
    """Key and value type of a collection of pairs, as far as Beam knows them."""
    types = getattr(pcollection.element_type, "tuple_types", None)
    return tuple(types) if types is not None and len(types) == 2 else (typehints.Any, typehints.Any)


def sides(label: str, on: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The key functions of both sides, from one function for both or a pair.

    Raises:
        ConfigError: it is neither.
    """
    pair = on if isinstance(on, tuple) else (on, on)
    if len(pair) != 2 or not all(callable(side) for side in pair):
        raise ConfigError(f"{label}: on must be a key function for both sides, or a pair (left, right), not {on!r}")
    return pair[0], pair[1]


class Join(beam.PTransform):
    """Joins a pair of keyed collections into ``(key, (left, right))`` for each pair of values of one key and window.

    The values of one key on the right are held in memory while the left ones pass by.

    Args:
        how: ``inner`` gives pairs only; ``left``, ``right`` and ``full`` also give what has no partner on the other
            side, with None for it.

    Raises:
        ConfigError: ``how`` is none of these.
    """

    def __init__(self, how: str = "inner") -> None:
        super().__init__()
        if how not in JOINS:
            near = suggestion(how, JOINS) or "."
            raise ConfigError(f"join: unknown how={how!r}{near} Accepted: {', '.join(JOINS)}")
        self.how = how

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        left, right = pcollections
        (key, left_value), (_, right_value) = kv_types(left), kv_types(right)
        if self.how in ("right", "full"):
            left_value = typehints.Optional[left_value]
        if self.how in ("left", "full"):
            right_value = typehints.Optional[right_value]
        pairs = beam.FlatMap(_Pairs(self.how)).with_output_types(
            typehints.Tuple[key, typehints.Tuple[left_value, right_value]]
        )
        return {"left": left, "right": right} | "Group" >> beam.CoGroupByKey() | "Pairs" >> pairs


class _Pairs:
    """The pairs of one key."""

    def __init__(self, how: str) -> None:
        self.keeps_left = how in ("left", "full")
        self.keeps_right = how in ("right", "full")

    def __call__(self, group):  # type: ignore[no-untyped-def]
        return self._pairs(*group)

    def _pairs(self, key: Any, values: dict[str, Any]) -> Iterator[tuple[Any, tuple[Any, Any]]]:
        rights = list(values["right"])
        has_left = False
        for left in values["left"]:
            has_left = True
            for right in rights:
                yield key, (left, right)
            if not rights and self.keeps_left:
                yield key, (left, None)
        if not has_left and self.keeps_right:
            for right in rights:
                yield key, (None, right)
