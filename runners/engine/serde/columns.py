"""Lists of values as columns of plain values: pickle takes these at a fraction of what it takes for objects.

pickle calls Python code for each named tuple, and keeps a table of each string and each list that it has seen. A list
in columns has the fields of its named tuples in a list each, the items of its lists in one list with their lengths,
and its short strings joined to one. All of that is done by C code, over whole columns::

    None                            a list that is empty
    ("same", object, count)         one object, again and again
    ("shared", objects, numbers)    few objects, each of them often: for each value the number of its object
    ("text", joined, separator)     short strings, or short bytes
    ("lists", lengths, column)      lists
    ("tuples", columns)             tuples of one length
    ("records", class, columns)     named tuples of one class
    ("kinds", classes, numbers, columns)    named tuples of several classes with as many fields each, in columns that
                                    they share: for each value the number of its class
    ("mixed", numbers, columns)     values of several classes: for each value the number of its class
    ("slices", columns)             a long list, some thousand values at a time
    [value, ...]                    anything else, as it is

Values come back equal and of the same classes. What was one object may come back as several, as it may from the coders
of a collection.
"""

from __future__ import annotations

import copyreg
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, repeat
from operator import is_
from typing import Any

_DEEPEST = 4  # columns within columns; what is below is left to pickle, which knows of cycles
_MOST_CLASSES = 16
_SAMPLE = 64
_SHORT = 64  # characters, or bytes, of a text
_SLICE = 2048  # values that a processor's cache has room for: they are looked at several times
_TEXT = (str, bytes)
_LEAST_SHARED = 4  # values of each object, in the mean

Numbers = bytes | array  # type: ignore[type-arg]


def to_columns(values: Sequence[Any], depth: int = 0) -> Any:
    """Returns the columns of a list, to be pickled.

    Values that are more than their fields are left as they are: what pickle refuses it still refuses.
    """
    values = values if values.__class__ is list else list(values)
    if not values:
        return None
    if not depth and len(values) > _SLICE:
        return ("slices", [to_columns(part, 1) for part in slices(values)])
    first = values[0]
    if all(map(is_, values, repeat(first))):
        return ("same", first, len(values))
    shared = _shared(values)
    if shared is not None:
        return shared
    if not (first is None or first.__class__ in _TEXT or _has_columns(first.__class__)):
        return values  # as almost all lists of numbers, without another look at each
    if len(set(map(type, values))) == 1:
        return _of_one_class(first.__class__, values, depth)
    classes = list(dict.fromkeys(map(type, values)))
    if len(classes) > _MOST_CLASSES or depth >= _DEEPEST or not any(map(_has_columns, classes)):
        return values
    of_each = list(map(type, values))
    numbers = bytes(map(_numbering(classes).__getitem__, of_each))
    if all(map(is_record, classes)) and (columns := _fields(values, depth)) is not None:
        return ("kinds", classes, numbers, columns)
    parts = [list(compress(values, map(is_, of_each, repeat(cls)))) for cls in classes]
    return ("mixed", numbers, [to_columns(part, depth + 1) for part in parts])


def from_columns(form: Any) -> list[Any]:
    """Returns the list whose columns these are."""
    if form is None:
        return []
    if form.__class__ is list:
        values: list[Any] = form
        return values
    kind, *rest = form
    return _READERS[kind](*rest)


def slices(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cuts a list into pieces that are quick to go through several times."""
    return (values[at : at + _SLICE] for at in range(0, len(values), _SLICE))


def is_record(cls: Any) -> bool:
    """Whether a class is that of a named tuple, and pickle would take its fields and nothing else."""
    return (
        cls.__bases__ == (tuple,)
        and hasattr(cls, "_fields")
        and not cls.__dictoffset__
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and getattr(cls, "__getstate__", None) is getattr(object, "__getstate__", None)
        and cls not in copyreg.dispatch_table
    )


def _has_columns(cls: type) -> bool:
    return cls is list or cls is tuple or is_record(cls)


def _shared(values: list[Any]) -> Any:
    """Columns of few objects; None where they are many."""
    sample = values[:_SAMPLE]
    if len(set(map(id, sample))) * _LEAST_SHARED > len(sample):
        return None
    places = list(map(id, values))
    objects = dict(zip(places, values, strict=True))
    if len(objects) * _LEAST_SHARED > len(values):
        return None
    numbers = list(map(_numbering(objects).__getitem__, places))
    return ("shared", list(objects.values()), _packed(numbers))


def _numbering(items: Iterable[Any]) -> dict[Any, int]:
    return {item: number for number, item in enumerate(items)}


def _of_one_class(cls: type, values: list[Any], depth: int) -> Any:
    if cls in _TEXT:
        return _joined(values, "\0" if cls is str else b"\0")
    if depth >= _DEEPEST or not _has_columns(cls):
        return values
    if cls is list:
        lengths = list(map(len, values))
        items = list(chain.from_iterable(values))
        return ("lists", _packed(lengths), to_columns(items, depth + 1))
    columns = _fields(values, depth)
    if columns is None:
        return values
    return ("tuples", columns) if cls is tuple else ("records", cls, columns)


def _joined(values: list[Any], separator: Any) -> Any:
    """Short texts as one. Of long ones, and of those that the separator is in, pickle makes as much."""
    if len(values[0]) > _SHORT or separator in values[0]:
        return values
    joined = separator.join(values)
    return ("text", joined, separator) if joined.count(separator) == len(values) - 1 else values


def _fields(values: list[Any], depth: int) -> list[Any] | None:
    """The columns of tuples; None where they are not of one length."""
    width = len(values[0])
    if not width or list(map(len, values)).count(width) < len(values):
        return None
    items = list(chain.from_iterable(values))
    return [to_columns(items[at::width], depth + 1) for at in range(width)]


def _packed(numbers: list[int]) -> Numbers:
    """Numbers, in a byte each where they fit."""
    try:
        return bytes(numbers)
    except ValueError:
        return array("Q", numbers)


def _bounds(lengths: Iterable[int]) -> Iterator[slice]:
    ends = list(accumulate(lengths))
    return map(slice, chain((0,), ends), ends)


def _from_slices(columns: list[Any]) -> list[Any]:
    return list(chain.from_iterable(map(from_columns, columns)))


def _from_same(value: Any, count: int) -> list[Any]:
    return [value] * count


def _from_shared(objects: list[Any], numbers: Numbers) -> list[Any]:
    return list(map(objects.__getitem__, numbers))


def _from_text(joined: Any, separator: Any) -> list[Any]:
    values: list[Any] = joined.split(separator)
    return values


def _from_lists(lengths: Numbers, form: Any) -> list[Any]:
    return list(map(from_columns(form).__getitem__, _bounds(lengths)))


def _from_tuples(columns: list[Any]) -> list[Any]:
    return list(zip(*map(from_columns, columns), strict=True))


def _from_records(cls: Any, columns: list[Any]) -> list[Any]:
    return list(map(cls, *map(from_columns, columns)))


def _from_kinds(classes: list[Any], numbers: bytes, columns: list[Any]) -> list[Any]:
    fields = list(map(from_columns, columns))
    parts = []
    for number, cls in enumerate(classes):
        chosen = list(map(number.__eq__, numbers))
        parts.append(map(cls, *(compress(field, chosen) for field in fields)))
    return list(map(next, map(parts.__getitem__, numbers)))


def _from_mixed(numbers: bytes, columns: list[Any]) -> list[Any]:
    parts = [iter(from_columns(form)) for form in columns]
    return list(map(next, map(parts.__getitem__, numbers)))


_READERS: dict[str, Callable[..., list[Any]]] = {
    "slices": _from_slices,
    "same": _from_same,
    "shared": _from_shared,
    "text": _from_text,
    "lists": _from_lists,
    "tuples": _from_tuples,
    "records": _from_records,
    "kinds": _from_kinds,
    "mixed": _from_mixed,
}
