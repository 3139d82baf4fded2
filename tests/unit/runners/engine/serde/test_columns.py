"""Lists in columns: what comes back is what went in, of the same classes; and no Python code runs for each value."""

from __future__ import annotations

import collections
import pickle
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.runners.engine.serde.columns import from_columns, is_record, to_columns


class Order(NamedTuple):
    name: str
    amount: Any


class Payment(NamedTuple):
    name: str
    amount: Any
    note: Any = None


class Refund(NamedTuple):
    order: Order
    why: str


class Stamped(collections.namedtuple("Stamped", "at")):
    """A subclass, whose instances have attributes of their own."""


class Reduced(NamedTuple):
    at: int

    def __reduce__(self) -> Any:
        return (Reduced, (self.at + 1,))


class Text(str):
    pass


def again(values: list[Any]) -> list[Any]:
    return from_columns(pickle.loads(pickle.dumps(to_columns(values), 5)))


def classes_of(value: Any) -> Any:
    """A value's class, and the classes of what is in it."""
    inner = [*map(classes_of, value)] if isinstance(value, list | tuple) else []
    return type(value), inner


TEXTS = st.text(max_size=4) | st.just("ab" * 200) | st.sampled_from(["\ud800", "é", "\U0001f600", ""])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.binary(max_size=3)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.builds(Order, TEXTS, inner)
        | st.builds(Payment, TEXTS, inner, inner)
        | st.builds(Refund, st.builds(Order, TEXTS, inner), TEXTS)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS, inner, max_size=2)
    )


@given(st.lists(st.recursive(PLAIN, nested, max_leaves=6), max_size=20), st.sampled_from([1, 3, 700]))
def test_values_come_back_equal_and_of_the_same_classes(values: list[Any], times: int) -> None:
    values = values * times
    assert [*map(classes_of, again(values))] == [*map(classes_of, values)]
    assert again(values) == values


@pytest.mark.parametrize(
    "values",
    [
        [],
        [None],
        [[]],
        [(), (1,)],
        [Text("a"), Text("b"), "c"],
        [True, 1, 1.0],
        [None, [1], None, ["a"], []],
        [[Order("a", 1), Payment("a", 1)], [Payment("b", 2)], []],
        [Order(str(number), number) for number in range(5000)],
        [[number] * (number % 5) for number in range(5000)],
        [str(number) * (number % 3) for number in range(5000)],
        [b"x" * number for number in range(300)],
        ["a", "b\0c", ""],
        ["", "", "a"],
        ["\0", "a"],
        [b"\0", b"a"],
        [["paid", "unpaid"][number % 2] for number in range(5000)],
    ],
    ids=str,
)
def test_edges_come_back(values: list[Any]) -> None:
    assert [*map(classes_of, again(values))] == [*map(classes_of, values)]
    assert again(values) == values


def test_a_list_that_holds_itself_comes_back() -> None:
    knot: list[Any] = []
    knot.append(knot)
    (found,) = again([knot])
    assert found[0][0] is found[0]


def test_lists_come_back_as_lists_of_their_own() -> None:
    first, second = again([[1], [1]])
    first.append(2)
    assert second == [1]


def test_a_named_tuple_that_says_how_it_is_pickled_is_left_to_pickle() -> None:
    assert [*map(is_record, (Order, Payment, Stamped, Reduced, tuple))] == [True, True, False, False, False]
    stamped = Stamped(1)
    stamped.seen = "here"  # type: ignore[attr-defined]
    (found,) = again([stamped])
    assert (found, found.seen) == (stamped, "here")
    assert again([Reduced(1)]) == [Reduced(2)]


def test_a_field_that_a_class_has_gained_takes_its_default() -> None:
    """As it does where pickle makes the value."""
    kind, cls, columns = to_columns([Order("a", 1), Order("b", 2)])
    assert (kind, cls) == ("records", Order)
    assert from_columns((kind, Payment, columns)) == [Payment("a", 1, None), Payment("b", 2, None)]


def test_pickle_calls_no_python_for_the_named_tuples_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for cls in (Order, Payment):
        monkeypatch.setattr(cls, "__getnewargs__", lambda self: calls.append(self) or tuple(self))
    bags = [[Order(str(number), number), Payment(str(number), number)] for number in range(100)]
    assert again(bags) == bags
    assert calls == []
    pickle.dumps(bags)
    assert len(calls) == 200  # which is what it would take


def test_few_objects_are_there_once() -> None:
    few = ["a" * 100, "b" * 100]
    found = again([few[number % 2] for number in range(1000)])
    assert len({*map(id, found)}) == 2
    assert len(pickle.dumps(to_columns(found))) < 2000
