"""Rows by column name: the keys that columns make, and rows made of the columns of both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.typehints import schemas

from sage.checks import suggestion
from sage.equality import canonical
from sage.errors import ConfigError
from sage.joins import JoinKind, KeyOf, kv_types

__all__ = ["MergeColumns", "On", "column_names", "join_kind", "key_functions", "reader"]

On = str | Sequence[str] | Mapping[str, str] | None
"""The columns that must be equal: a name, several names, or ``{left name: right name}``; None for keyed pairs."""


class _OneColumn:
    """The key of a row: one column."""

    def __init__(self, owner: str, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, row: Any) -> Any:
        try:
            value = row[self.name] if row.__class__ is dict else _column(row, self.name)
        except (KeyError, AttributeError) as error:
            raise _named_error(self.owner, self.name, row, error) from None
        return value if value.__class__ is str or value.__class__ is int else _form(self.owner, self.name, value)


def _form(owner: str, name: str, value: Any) -> Any:
    try:
        return canonical(value)
    except ConfigError as error:
        raise ConfigError(f"{owner}: column {name!r}: {error}") from None


class _Columns:
    """The key of a row: several columns."""

    def __init__(self, owner: str, names: tuple[str, ...]) -> None:
        self.parts = tuple(_OneColumn(owner, name) for name in names)

    def __call__(self, row: Any) -> Any:
        return tuple([part(row) for part in self.parts])


def _column(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, Mapping) else getattr(row, name)


def _named_error(owner: str, name: str, row: Any, error: Exception) -> Exception:
    """What to say of a column that could not be read; the error itself where the row has it."""
    there = tuple(map(str, row)) if isinstance(row, Mapping) else _fields_of(row)
    if name in there or hasattr(type(row), name):
        return error
    if not there:
        return ConfigError(f"{owner}: no column {name!r}; the element is no row, but of type {type(row).__name__}")
    return ConfigError(f"{owner}: no column {name!r}{suggestion(name, there) or '.'} The row has {', '.join(there)}")


def _fields_of(row: Any) -> tuple[str, ...]:
    if isinstance(row, beam.Row):
        return tuple(row._asdict())
    return tuple(getattr(row, "_fields", ())) or tuple(getattr(row, "__dataclass_fields__", ()))


def reader(owner: str, name: str) -> Callable[[Any], Any]:
    """A function that reads a column of a row: a dict, a ``beam.Row`` or a named tuple.

    It raises a ConfigError, which names ``owner``, where there is no such column.
    """

    def read(row: Any) -> Any:
        try:
            return _column(row, name)
        except (KeyError, AttributeError) as error:
            raise _named_error(owner, name, row, error) from None

    return read


def column_names(element_type: Any) -> tuple[str, ...] | None:
    """The columns of rows of this type, as far as Beam knows them."""
    options = [kind for kind in getattr(element_type, "union_types", (element_type,)) if kind is not type(None)]
    try:
        return tuple(name for name, _ in schemas.named_fields_from_element_type(*options))
    except TypeError:
        return None


def key_functions(
    owner: str, on: On, left: beam.PCollection, right: beam.PCollection
) -> tuple[KeyOf | None, KeyOf | None]:
    """What makes the keys of both sides; None and None for keyed pairs.

    Raises:
        ConfigError: ``on`` is none of what `On` says; or a side has no such column, where its columns are known; or
            there is no ``on``, and a side is known to be of rows.
    """
    if on is None:
        for side in (left, right):
            known = column_names(side.element_type)
            if known:
                raise ConfigError(
                    f"{owner}: these are rows, of {', '.join(known)}: say with on= which columns make the key; without "
                    "it the input is (key, value) pairs"
                )
        return None, None
    names = _names(owner, on)
    for side, wanted, rows in (("left", names.keys(), left), ("right", names.values(), right)):
        known = column_names(rows.element_type) or ()
        for name in wanted if known else ():
            if name not in known:
                near = suggestion(name, known) or "."
                raise ConfigError(f"{owner}: the {side} side has no column {name!r}{near} It has {', '.join(known)}")
    return _key_of(owner, tuple(names)), _key_of(owner, tuple(names.values()))


def _key_of(owner: str, names: tuple[str, ...]) -> KeyOf:
    return _OneColumn(owner, names[0]) if len(names) == 1 else _Columns(owner, names)


def join_kind(owner: str, how: str, on: On, left: beam.PCollection, right: beam.PCollection) -> JoinKind:
    """The join of two sides on columns, or of keyed pairs; raises as `key_functions`."""
    return JoinKind(how, *key_functions(owner, on, left, right))


def _names(owner: str, on: On) -> dict[str, str]:
    """The columns of the left side, and what each must equal on the right one."""
    if isinstance(on, str):
        names = {on: on}
    elif isinstance(on, Mapping):
        names = dict(on)
    else:
        names = {name: name for name in on} if isinstance(on, Iterable) else {}
    if not names or not all(isinstance(name, str) for pair in names.items() for name in pair):
        raise ConfigError(f"{owner}: on must be a column, several, or a dict of left to right columns, not {on!r}")
    return names


class MergeColumns(beam.PTransform):
    """Pairs of rows into rows with the columns of both, as SQL's ``SELECT * ... USING (...)`` gives them.

    Input: ``(left, right)``, one of them None where there was no partner: what the joins on columns give. Output: dicts
    where the rows are dicts, else ``beam.Row``. A side that is None gives None for each of its columns.

    Args:
        on: the columns that the join was on. One that has the same name on both sides comes once.
        suffix: what is put behind the name of a right column where the left side has one of that name.
        left: the columns of the left side, where neither its type nor each of its rows says them. A dict without type
            is asked itself; so a missing one has no columns, unless they are said here.
        right: the columns of the right side.

    Raises:
        ConfigError: ``on`` is no column or columns; two columns of the result have one name; or the columns of a side
            that is missing are not known.
    """

    def __init__(
        self, on: On = (), suffix: str = "_right", left: Sequence[str] | None = None, right: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        names = _names("MergeColumns", on) if on else {}
        shared = frozenset(name for name, theirs in names.items() if name == theirs)
        self._merge = _Merge(shared, suffix, tuple(left) if left else None, tuple(right) if right else None)

    def expand(self, pairs: beam.PCollection[Any]) -> beam.PCollection[Any]:
        known = map(column_names, kv_types(pairs))
        merge = self._merge.knowing(*known)
        return pairs | "Merge" >> beam.Map(merge)


class _Merge:
    """One row of two."""

    def __init__(
        self, shared: frozenset[str], suffix: str, left: tuple[str, ...] | None, right: tuple[str, ...] | None
    ) -> None:
        self.shared, self.suffix, self.left, self.right = shared, suffix, left, right
        if left is not None and right is not None:
            self._names(left, right)

    def knowing(self, left: tuple[str, ...] | None, right: tuple[str, ...] | None) -> _Merge:
        return _Merge(self.shared, self.suffix, self.left or left, self.right or right)

    def _names(self, left: Sequence[str], right: Sequence[str]) -> list[str]:
        """What the columns of the right side are called in the result; a shared one keeps its name."""
        taken = set(left)
        made = [name if name not in taken or name in self.shared else name + self.suffix for name in right]
        new = [name for name in made if name not in taken or name not in self.shared]
        if len(taken.union(new)) < len(left) + len(new):
            raise ConfigError(f"MergeColumns: two columns of the result have one name; set suffix, now {self.suffix!r}")
        return made

    def __call__(self, pair: Any) -> Any:
        left, right = pair
        ours, theirs = self._columns(left, self.left, right), self._columns(right, self.right, left)
        row = {**ours}
        for name, (column, value) in zip(self._names(list(ours), list(theirs)), theirs.items(), strict=True):
            if left is None or column not in self.shared:
                row[name] = value
        return row if isinstance(right if left is None else left, dict) else beam.Row(**row)

    def _columns(self, row: Any, names: tuple[str, ...] | None, other: Any) -> dict[str, Any]:
        if row is not None:
            values: Mapping[str, Any] = row if isinstance(row, Mapping) else row._asdict()
            return {name: values[name] for name in (values if names is None else names)}
        if names is None and not isinstance(other, dict):
            raise ConfigError("MergeColumns: the columns of a missing row are not known; give left= and right=")
        return dict.fromkeys(names or ())
