"""Joining two keyed collections on one shuffle, with SQL's meaning.

The rows of both sides go under their keys into one grouping; then the pairs of each key are made. Keys are equal where
their values are: the grouping is by their canonical forms. A key that is NULL equals no key, as in SQL: such a row has
no partner, which is known at once, so it stays out of the grouping. NULL is None, and a tuple with None in it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import typehints
from apache_beam.transforms import trigger
from apache_beam.transforms.trigger import AccumulationMode

from sage.checks import suggestion
from sage.equality import CanonicalKey, canonical, has_own_coder
from sage.errors import ConfigError

__all__ = [
    "JOINS",
    "Join",
    "JoinKind",
    "check_how",
    "check_windows",
    "is_null",
    "kv_types",
    "pair_of",
    "row_of",
    "sides",
]

JOINS = ("inner", "left", "right", "full", "semi", "anti")
LEFT, RIGHT = 0, 1
_ONE_SIDED = ("semi", "anti")
_KEYED, _ALONE = "keyed", "alone"

KeyOf = Callable[[Any], Any]


def kv_types(pcollection: beam.PCollection) -> tuple[Any, Any]:
    """Key and value type of a collection of pairs, as far as Beam knows them."""
    types = getattr(pcollection.element_type, "tuple_types", None)
    return tuple(types) if types is not None and len(types) == 2 else (typehints.Any, typehints.Any)


def pair_of(element: Any) -> Any:
    """A (key, value) pair.

    Raises:
        ConfigError: it is a row, whose first two columns nobody meant for these.
    """
    if element.__class__ is not tuple and (isinstance(element, beam.Row) or hasattr(element, "_fields")):
        raise ConfigError(
            "a join without on= takes (key, value) pairs, and an element is a row: say with on= which columns make the "
            f"key, or make a plain tuple of it. It is {element!r:.200}"
        )
    return element


def sides(label: str, on: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The key functions of both sides, from one function for both or a pair.

    Raises:
        ConfigError: it is neither.
    """
    pair = on if isinstance(on, tuple) else (on, on)
    if len(pair) != 2 or not all(callable(side) for side in pair):
        raise ConfigError(f"{label}: on must be a key function for both sides, or a pair (left, right), not {on!r}")
    return pair[0], pair[1]


def is_null(key: Any) -> bool:
    """Whether a key is NULL in the sense of SQL, which equals nothing.

    >>> is_null(None), is_null(("a", None)), is_null(("a", 1))
    (True, True, False)
    """
    return key is None or (isinstance(key, tuple) and None in key)


def check_how(owner: str, how: str, accepted: Sequence[str] = JOINS) -> str:
    """``how``, if it is accepted.

    Raises:
        ConfigError: it is not.
    """
    if how not in accepted:
        near = suggestion(how, accepted) or "."
        raise ConfigError(f"{owner}: unknown how={how!r}{near} Accepted: {', '.join(accepted)}")
    return how


def check_windows(owner: str, left: beam.PCollection, right: beam.PCollection) -> None:
    """Refuse sides that are windowed apart: no row of one would meet a row of the other.

    Raises:
        ConfigError: the window functions differ.
    """
    ours, theirs = left.windowing.windowfn, right.windowing.windowfn
    if ours != theirs:
        apart = f"{_named(ours)} and {_named(theirs)}"
        raise ConfigError(f"{owner}: the sides have different windows, {apart}; give both the same")


def _named(windows: Any) -> str:
    """A window function as its author meant it to be read, or its class."""
    text = repr(windows)
    return type(windows).__name__ if text.startswith("<") else text


def _check_panes(owner: str, pcollection: beam.PCollection) -> None:
    """A pane that holds only what is new knows nothing of the partners that came before."""
    windowing = pcollection.windowing
    if pcollection.is_bounded or windowing.accumulation_mode == AccumulationMode.ACCUMULATING:
        return
    once = isinstance(windowing.triggerfn, trigger.DefaultTrigger) and not windowing.allowed_lateness.micros
    once = once or windowing.triggerfn == trigger.AfterWatermark()
    if not once:
        raise ConfigError(
            f"{owner}: a window that fires more than once, and each time with what is new only, would miss the pairs "
            "between the firings; set accumulation_mode=ACCUMULATING, or neither trigger nor allowed_lateness"
        )


class _WithKey(NamedTuple):
    """A value of a pair with the pair's key, which is equal to the canonical one but another."""

    key: Any
    row: Any


def row_of(row: Any) -> Any:
    """Returns a row as it came in, without the key that it may go with inside of a join."""
    return row.row if row.__class__ is _WithKey else row


@dataclass(frozen=True)
class JoinKind:
    """Which rows of a join come out, and in which form.

    Args:
        how: one of `JOINS`.
        left_key: the key of a left row; None where both sides are (key, value) pairs.
        right_key: the key of a right row.
        key_type: the type of the keys that these make.
        by_value: whether keys are equal where their values are; else where the bytes of their coder are.
    """

    how: str
    left_key: KeyOf | None = None
    right_key: KeyOf | None = None
    key_type: Any = CanonicalKey
    by_value: bool = True

    @property
    def keyed(self) -> bool:
        """Whether keys come in and go out beside the values."""
        return self.left_key is None

    @property
    def one_sided(self) -> bool:
        """Whether left rows come out by themselves."""
        return self.how in _ONE_SIDED

    @property
    def keeps_left(self) -> bool:
        """Whether a left row without partner comes out."""
        return self.how in ("left", "full", "anti")

    @property
    def keeps_right(self) -> bool:
        """Whether a right row without partner comes out."""
        return self.how in ("right", "full")

    def result(self, key: Any, left: Any, right: Any) -> Any:
        """What comes out for a pair; one of the two may be None."""
        if self.left_key is not None:
            return left if self.how in _ONE_SIDED else (left, right)
        if right.__class__ is _WithKey:
            own, right = right
            key = own if left is None else key
        if left.__class__ is _WithKey:
            key, left = left
        return key, left if self.how in _ONE_SIDED else (left, right)

    def typed(self, left: beam.PCollection, right: beam.PCollection) -> JoinKind:
        """Returns this join with the key type of its grouping: what both sides declare, or canonical keys."""
        if not self.keyed:
            return self
        (key_type, _), (other, _) = kv_types(left), kv_types(right)
        own = key_type == other and has_own_coder(key_type)
        declared = own or (key_type == other and key_type in (int, str, bytes))
        return replace(self, key_type=key_type if declared else CanonicalKey, by_value=not own)

    def keyed_row(self, element: Any) -> tuple[Any, Any]:
        """Returns the key that a pair is grouped by, and its value; the value goes with its own key if that differs.

        Raises:
            ConfigError: the element is a row, or the key is of a type that cannot be compared by value.
        """
        key, row = pair_of(element)
        cls = key.__class__
        if cls is str or cls is int or cls is bytes or key is None or not self.by_value:
            return key, row
        form = canonical(key)
        same = form is key or (
            cls is tuple and form.__class__ is tuple and len(form) == len(key) and all(map(operator.is_, form, key))
        )
        return form, row if same else _WithKey(key, row)

    def output_type(self, left: beam.PCollection, right: beam.PCollection) -> Any:
        """The type of the results."""
        key, left_type = kv_types(left) if self.keyed else (None, left.element_type)
        _, right_type = kv_types(right) if self.keyed else (None, right.element_type)
        if self.one_sided:
            row = left_type
        else:
            row = typehints.Tuple[
                typehints.Optional[left_type] if self.keeps_right else left_type,
                typehints.Optional[right_type] if self.keeps_left else right_type,
            ]
        return typehints.Tuple[key, row] if self.keyed else row

    def gather(
        self, left: beam.PCollection, right: beam.PCollection, timed: bool = False
    ) -> tuple[beam.PCollection, list[beam.PCollection]]:
        """Both sides under their keys, and what comes out at once.

        Args:
            left: the left rows or pairs.
            right: the right ones.
            timed: whether event times are needed.

        Returns:
            ``(key, (side, row))``, or, timed, ``(key, (side, microseconds, row))``, where side is `LEFT` or `RIGHT`;
            and collections of results for rows whose key is NULL.
        """
        keyed, alone = [], []
        # Values go as Any: a coder of rows would give back rows of another class than it took.
        kind = self.typed(left, right)
        parts = (typehints.Any,) * (3 if timed else 2)
        made = typehints.Tuple[kind.key_type, typehints.Tuple[parts]]
        for name, rows, side, key_of, keeps in (
            ("Left", left, LEFT, self.left_key, self.keeps_left),
            ("Right", right, RIGHT, self.right_key, self.keeps_right),
        ):
            tag = _Tag(kind, side, key_of, keeps)
            step = beam.FlatMap(tag.timed if timed else tag.plain)
            if keeps:
                outputs = rows | name >> step.with_outputs(_ALONE, main=_KEYED)
                outputs[_KEYED].element_type = made
                keyed.append(outputs[_KEYED])
                alone.append(outputs[_ALONE])
            else:
                keyed.append(rows | name >> step.with_output_types(made))
        return tuple(keyed) | "Both" >> beam.Flatten(), alone

    def together(self, joined: beam.PCollection, alone: list[beam.PCollection], made: Any) -> beam.PCollection:
        """All results as one collection, of type ``made``."""
        if not alone:
            return joined
        for part in alone:
            part.element_type = made
        return (joined, *alone) | "All" >> beam.Flatten()


class _Tag:
    """Puts a row under its key, with its side; a row whose key is NULL comes out, if it does, by itself."""

    def __init__(self, kind: JoinKind, side: int, key_of: KeyOf | None, keeps: bool) -> None:
        self.kind, self.side, self.key_of, self.keeps = kind, side, key_of, keeps

    def plain(self, row: Any) -> Sequence[Any]:
        key, row = self.kind.keyed_row(row) if self.key_of is None else (self.key_of(row), row)
        if key is None or (key.__class__ is tuple and None in key):
            return self._null(key, row)
        return ((key, (self.side, row)),)

    def timed(self, row: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Sequence[Any]:
        key, row = self.kind.keyed_row(row) if self.key_of is None else (self.key_of(row), row)
        if is_null(key):
            return self._null(key, row)
        return ((key, (self.side, timestamp.micros, row)),)

    def _null(self, key: Any, row: Any) -> Sequence[Any]:
        if not self.keeps:
            return ()
        left, right = (row, None) if self.side == LEFT else (None, row)
        return (beam.pvalue.TaggedOutput(_ALONE, self.kind.result(key, left, right)),)


class Join(beam.PTransform):
    """Joins a pair of collections: within each window, each left row with each right row of the same key.

    Input: ``(left, right)``, both windowed alike. (key, value) pairs give ``(key, (left, right))``; rows whose keys
    are made by functions give ``(left, right)``. ``semi`` and ``anti`` give ``(key, left)``, or left rows.

    The result has the timestamp of its group, by default the end of the window; that of a row whose key is NULL comes
    out at once with the row's own. State kept: both sides of a window until it fires; then the right values of one
    key are held in memory while the left ones pass by.

    Keys are equal where their values are, as `sage.equality.canonical` has it: 1, 1.0 and ``numpy.int64(1)``. A result
    has the key of its left row, or that of the right one where there is no left. Where both sides declare one key type
    that has a coder of the user's, the bytes of that coder decide.

    Args:
        how: ``inner`` gives pairs only; ``left``, ``right`` and ``full`` also give what has no partner on the other
            side, with None for it; ``semi`` gives each left row that has a partner, once, and ``anti`` those that
            have none.
        keys: functions that make the canonical key of a left row and of a right one; None for (key, value) pairs.
        key_type: the type of the keys that they make.

    Raises:
        ConfigError: ``how`` is none of these; the sides have different windows; or a window would fire more than
            once with only what is new.
    """

    def __init__(
        self, how: str = "inner", keys: tuple[KeyOf, KeyOf] | None = None, key_type: Any = CanonicalKey
    ) -> None:
        super().__init__()
        left_key, right_key = keys or (None, None)
        self._kind = JoinKind(check_how("join", how), left_key, right_key, key_type)

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        left, right = pcollections
        check_windows("join", left, right)
        for side in (left, right):
            _check_panes("join", side)
        rows, alone = self._kind.gather(left, right)
        made = self._kind.output_type(left, right)
        pairs = beam.FlatMap(_Pairs(self._kind)).with_output_types(made)
        joined = rows | "Group" >> beam.GroupByKey() | "Pairs" >> pairs
        return self._kind.together(joined, alone, made)


class _Pairs:
    """The results of one key."""

    def __init__(self, kind: JoinKind) -> None:
        self.kind, self.keyed = kind, kind.keyed
        self.keeps_left, self.keeps_right = kind.keeps_left, kind.keeps_right
        self.one_sided = kind.one_sided

    def __call__(self, group):  # type: ignore[no-untyped-def]
        return self._lefts(*group) if self.one_sided else self._pairs(*group)

    def _pairs(self, key: Any, values: Any) -> Iterator[Any]:
        keyed, has_left = self.keyed, False
        result = self.kind.result
        # What a runner did not keep in memory is read twice, so that only one side of it has to be held here.
        rights = [right for side, right in values if side]
        if not rights and self.keeps_left:
            rights = [None]
        for side, left in values:
            if side == LEFT:
                has_left = True
                for right in rights:
                    yield result(key, left, right) if keyed else (left, right)
        if not has_left and self.keeps_right:
            for right in rights:
                yield result(key, None, right) if keyed else (None, right)

    def _lefts(self, key: Any, values: Any) -> Iterator[Any]:
        has_right = any(side for side, _ in values)
        if has_right != self.keeps_left:
            for side, left in values:
                if side == LEFT:
                    yield self.kind.result(key, left, None)
