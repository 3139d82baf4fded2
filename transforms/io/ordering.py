"""The order of the elements of one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sage.transforms.io.scalars import plain, type_name

__all__ = ["sort_by_key"]

_LAST = (1,)
# Keys of one of these types are in the order of their values.
_ORDERED = (frozenset({str}), frozenset({int}), frozenset({bytes}))


def sort_by_key(elements: list[Any], key: Callable[[Any], Any], where: str) -> None:
    """Sorts a list by what ``key`` makes of its elements. The order of elements with equal keys stays as it is.

    None and NaN come behind all other values, as the key itself and inside a tuple or list.

    Raises:
        ValueError: the keys do not compare with each other; it names ``where``, a file, and some of their types.
    """
    keys = [key(element) for element in elements]
    try:
        ordered = keys if frozenset(map(type, keys)) in _ORDERED else [_rank(value) for value in keys]
        places = sorted(range(len(keys)), key=ordered.__getitem__)
    except (TypeError, ValueError) as error:
        kinds = " and ".join(list(dict.fromkeys(type_name(value) for value in keys))[:3])
        place = f"file {where!r}: " if where else ""
        raise ValueError(
            f"{place}sort_by makes {kinds}, which do not compare ({error}); let it make values of one type, such as "
            "str(...), or a tuple of values whose types are the same for each element"
        ) from error
    elements[:] = [elements[place] for place in places]


def _rank(value: Any) -> Any:
    """Returns what compares as the value does, and behind all values for one that is missing."""
    value = plain(value)
    if isinstance(value, (tuple, list)):
        return (0, tuple(map(_rank, value)))
    if value is None or value != value:
        return _LAST
    return (0, value)
