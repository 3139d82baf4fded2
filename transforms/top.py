"""The n greatest or least elements, of each key or of each window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.transforms.combiners import TopCombineFn

from sage.errors import ConfigError
from sage.joins import kv_types
from sage.transforms.joins.columns import reader

__all__ = ["TopPerKey", "TopPerWindow"]

By = str | Callable[[Any], Any] | None
"""What elements are compared by: a column, a function, or None for the elements themselves."""


class TopPerKey(beam.PTransform):
    """The greatest values of each key, in each window.

    Input: (key, value). Output: (key, values), the best one first, when the window fires and with its timestamp. What
    is compared by None or NaN comes behind all others. Of equal values any may stay.

    State kept: n values for each key and window.

    Args:
        n: how many values stay (count).
        by: see `By`.
        least: whether the least are wanted instead.

    Raises:
        ConfigError: ``n`` is not 1 or more.
    """

    def __init__(self, n: int, by: By = None, least: bool = False) -> None:
        super().__init__()
        self._combine = _top("TopPerKey", n, by, least)

    def expand(self, pairs: beam.PCollection[Any]) -> beam.PCollection[Any]:
        key, value = kv_types(pairs)
        made = typehints.Tuple[key, typehints.List[value]]
        return pairs | "Top" >> beam.CombinePerKey(self._combine).with_output_types(made)


class TopPerWindow(beam.PTransform):
    """The greatest elements of each window, as one list, the best one first; nothing for a window without elements.

    As `TopPerKey` in all else.

    Args:
        n: how many elements stay (count).
        by: see `By`.
        least: whether the least are wanted instead.

    Raises:
        ConfigError: ``n`` is not 1 or more.
    """

    def __init__(self, n: int, by: By = None, least: bool = False) -> None:
        super().__init__()
        self._combine = _top("TopPerWindow", n, by, least)

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        top = beam.CombineGlobally(self._combine).without_defaults()
        return rows | "Top" >> top.with_output_types(typehints.List[rows.element_type])


def _top(owner: str, n: int, by: By, least: bool) -> TopCombineFn:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ConfigError(f"{owner}: n must be a whole number of 1 or more, not {n!r}")
    value_of = reader(owner, by) if isinstance(by, str) else by

    def order(row: Any) -> Any:
        value = row if value_of is None else value_of(row)
        missing = value is None or value != value
        return (missing if least else not missing, None if missing else value)

    return TopCombineFn(n, key=order, reverse=least)
