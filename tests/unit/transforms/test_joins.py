"""Joins: which rows meet, when what comes out, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import trigger
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue

from sage.errors import ConfigError, Fault, StepError
from sage.runners.local import LocalRunner
from sage.transforms.deduplicate import Deduplicate
from sage.transforms.joins import AsOfJoin, IntervalJoin, Join, MergeColumns, TableJoin
from sage.transforms.joins.columns import reader
from sage.transforms.top import TopPerWindow
from tests.models.timeline import LEFT, RIGHT, Endless, Keep, Timeline, run, texts

Make = Callable[[], beam.PTransform]


def found(make: Make, *events: Any) -> Counter[Any]:
    """(text of the result, timestamp in s) of a join of a timeline."""
    return run(lambda p: p | Timeline(events) | make() | Keep("kept")).get("kept", Counter())


def left(value: Any, stamp: float, key: Any = "k") -> Any:
    return (LEFT, (key, value), stamp)


def right(value: Any, stamp: float, key: Any = "k") -> Any:
    return (RIGHT, (key, value), stamp)


class Order(NamedTuple):
    id: int
    customer: str | None


class Customer(NamedTuple):
    name: str
    id: int


class Ids(NamedTuple):
    id: int
    a: int


class Remote(NamedTuple):
    """A row with a column that is fetched."""

    id: int = 1

    @property
    def far(self) -> int:
        raise AttributeError("the server is away")


ORDERS = [Order(1, "ada"), Order(2, "bob"), Order(3, None), Order(4, "ada")]
CUSTOMERS = [Customer("ada", 7), Customer("eve", 8)]
MERGED = [
    {"id": 1, "customer": "ada", "name": "ada", "id_right": 7},
    {"id": 4, "customer": "ada", "name": "ada", "id_right": 7},
    {"id": 2, "customer": "bob", "name": None, "id_right": None},
    {"id": 3, "customer": None, "name": None, "id_right": None},
    {"id": None, "customer": None, "name": "eve", "id_right": 8},
]


@pytest.mark.parametrize("kind", ["dict", "row", "named tuple"])
def test_rows_of_each_kind_are_joined_and_merged(kind: str) -> None:
    make: Callable[[Any], Any] = {
        "dict": lambda row: row._asdict(),
        "row": lambda row: beam.Row(**row._asdict()),
        "named tuple": lambda row: row,
    }[kind]
    columns = {"left": Order._fields, "right": Customer._fields} if kind == "dict" else {}
    with beam.Pipeline(runner=LocalRunner()) as p:
        sides = (p | "l" >> beam.Create(list(map(make, ORDERS))), p | "r" >> beam.Create(list(map(make, CUSTOMERS))))
        joined = sides | Join(on={"customer": "name"}, how="full")
        merged = joined | MergeColumns(on={"customer": "name"}, **columns)
        expected: list[Any] = MERGED if kind == "dict" else [beam.Row(**row) for row in MERGED]
        assert_that(merged, equal_to(expected))


def test_a_column_that_both_sides_have_comes_once() -> None:
    rows = [({"k": 1, "x": 2}, {"k": 1, "x": 3}), (None, {"k": 4, "x": 5}), ({"k": 6, "x": 7}, None)]
    with beam.Pipeline(runner=LocalRunner()) as p:
        merged = p | beam.Create(rows) | MergeColumns(on="k", suffix="_2", left=["k", "x"], right=["k", "x"])
        expected = [{"k": 1, "x": 2, "x_2": 3}, {"k": 4, "x": None, "x_2": 5}, {"k": 6, "x": 7, "x_2": None}]
        assert_that(merged, equal_to(expected))


def test_columns_that_cannot_be_told_apart_or_are_not_known_are_refused() -> None:
    with pytest.raises(ConfigError, match="two columns of the result have one name; set suffix, now '_x'"):
        MergeColumns(on="k", suffix="_x", left=["k", "a", "a_x"], right=["k", "a"])
    with pytest.raises(ConfigError, match=r"not known; give left= and right="):
        _ = [(beam.Row(k=1), None)] | MergeColumns()


@pytest.mark.parametrize(
    ("on", "why"),
    [
        ("costumer", "the left side has no column 'costumer'; did you mean 'customer'"),
        ({"customer": "nom"}, "the right side has no column 'nom'. It has name, id"),
        ([], "on must be a column"),
        (7, "on must be a column"),
    ],
)
def test_columns_that_do_not_exist_are_refused_before_anything_runs(on: Any, why: str) -> None:
    p = beam.Pipeline(runner=LocalRunner())
    sides = (p | "l" >> beam.Create(ORDERS), p | "r" >> beam.Create(CUSTOMERS))
    with pytest.raises(ConfigError, match=why):
        sides | Join(on=on)


def untyped(*rows: Any) -> beam.PTransform:
    """Rows of which nothing is known before they come."""
    return beam.Create(rows, reshuffle=False) | beam.Map(lambda row: row).with_output_types(Any)


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda rows: (rows, rows) | Join(on="idd"), "Join"),
        (lambda rows: (rows, rows) | IntervalJoin(["a", "idd"], within="1s"), "IntervalJoin"),
        (lambda rows: (rows, rows) | TableJoin(on="idd"), "TableJoin"),
        (lambda rows: rows | Deduplicate("1m", on="idd"), "Deduplicate"),
        (lambda rows: rows | TopPerWindow(1, "idd"), "TopPerWindow"),
    ],
)
@pytest.mark.parametrize("row", [beam.Row(id=1, a=2), {"id": 1, "a": 2}, Ids(1, 2)], ids=["row", "dict", "named tuple"])
def test_a_column_that_a_row_does_not_have_is_told_with_those_it_has(make: Any, step: str, row: Any) -> None:
    pipeline = beam.Pipeline(runner=LocalRunner())
    make(pipeline | untyped(row))
    with pytest.raises(StepError, match=rf"{step}: no column 'idd'; did you mean 'id'\? The row has id, a") as caught:
        pipeline.run()
    assert caught.value.fault is Fault.CONFIGURATION


def test_an_error_of_a_row_of_the_users_own_stays_what_it_is() -> None:
    with pytest.raises(AttributeError, match="the server is away"):
        reader("Join", "far")(Remote())


@pytest.mark.parametrize("make", [Join, TableJoin, lambda: IntervalJoin(within="1s")])
@pytest.mark.parametrize("row", [beam.Row(id=1, a=2), Ids(1, 2)], ids=["row", "named tuple"])
def test_rows_are_no_pairs(make: Make, row: Any) -> None:
    pipeline = beam.Pipeline(runner=LocalRunner())
    typed = pipeline | beam.Create([row])
    with pytest.raises(ConfigError, match="these are rows, of id, a: say with on="):
        (typed, typed) | make()
    rows = pipeline | "untyped" >> untyped(row)
    (rows, rows) | "late" >> make()
    with pytest.raises(StepError, match=r"an element is a row: say with on="):
        pipeline.run()


def test_values_that_are_wrong_are_refused() -> None:
    for make, why in (
        (partial(Join, how="outer"), "unknown how='outer'"),
        (partial(IntervalJoin), "give within, or before and after"),
        (partial(IntervalJoin, within=1, after=2), "give within, or before and after"),
        (partial(IntervalJoin, before=1, after=-2), "no time is from 1 before to -2 after"),
        (partial(AsOfJoin, how="full"), "unknown how='full'"),
        (partial(AsOfJoin, tolerance=-1), "tolerance must not be less than nothing"),
        (partial(TableJoin, table_as="cache"), "table_as must be one of state, side"),
        (partial(TableJoin, table_as="side", deleted=bool), "deleted is for a table that is held as state"),
    ):
        with pytest.raises(ConfigError, match=why):
            make()


def test_windows_that_do_not_fit_are_refused() -> None:
    p = beam.Pipeline(runner=LocalRunner())
    rows = p | beam.Create([("k", 1)])
    minutes = rows | "minutes" >> beam.WindowInto(FixedWindows(60))
    sessions = rows | "sessions" >> beam.WindowInto(Sessions(60))
    with pytest.raises(ConfigError, match="the sides have different windows"):
        (rows, minutes) | Join()
    with pytest.raises(ConfigError, match="windows that merge"):
        (sessions, sessions) | IntervalJoin(within=1)
    early = trigger.AfterWatermark(early=trigger.AfterCount(1))
    panes = rows | Endless() | "panes" >> beam.WindowInto(FixedWindows(60), trigger=early, accumulation_mode=1)
    with pytest.raises(ConfigError, match="would miss the pairs between the firings"):
        (panes, panes) | "panes join" >> Join()


def test_a_windowed_join_comes_when_its_window_ends() -> None:
    class Windowed(beam.PTransform):
        def expand(self, sides: Any) -> Any:
            into = [side | f"w{n}" >> beam.WindowInto(FixedWindows(10)) for n, side in enumerate(sides)]
            return tuple(into) | Join(how="left")

    events = ([left(1, 1), right(2, 9), left(3, 11), left(4, 2, None)], 10, [right(5, 10)])
    assert found(Windowed, *events) == {
        ("('k', (1, 2))", 9.999999): 1,
        ("('k', (3, 5))", 19.999999): 1,
        ("(None, (4, None))", 2): 1,  # known at once
    }


def test_an_interval_join_gives_the_later_time_of_a_pair_and_the_end_of_the_interval() -> None:
    events = ([left("a", 10), right("b", 15), left("c", 30), right("d", 24)], 40, [right("e", 50)])
    assert found(partial(IntervalJoin, within=5, how="full"), *events) == {
        ("('k', ('a', 'b'))", 15): 1,
        ("('k', ('c', None))", 35): 1,
        ("('k', (None, 'd'))", 29): 1,
        ("('k', (None, 'e'))", 55): 1,
    }


def test_an_interval_that_lies_before_or_after() -> None:
    events = ([right("r", 0), left("a", 4), left("b", 5), left("c", 10), left("d", 11)],)
    made = found(partial(IntervalJoin, before="10s", after=-5), *events)
    assert texts(made) == {"('k', ('b', 'r'))": 1, "('k', ('c', 'r'))": 1}


def test_state_of_an_interval_join_is_gone_when_no_partner_can_come() -> None:
    near = partial(IntervalJoin, within=5)
    assert not found(near, [left("a", 10)], 16, 100, [right("late", 10)])
    assert texts(found(near, [left("a", 10)], 15, [right("b", 15)])) == {"('k', ('a', 'b'))": 1}


def test_an_as_of_join_waits_for_the_watermark() -> None:
    """Until it is past a row's time, a partner of that very time may come."""
    rows = [left("a", 10), right("new", 9)]
    in_time = found(AsOfJoin, rows, 10, [right("newer", 10), right("after", 11)])
    assert in_time == {("('k', ('a', 'newer'))", 10): 1}
    assert texts(found(AsOfJoin, rows, 11, [right("late", 10)])) == {"('k', ('a', 'new'))": 1}


def test_the_latest_row_is_kept_for_as_long_as_the_tolerance() -> None:
    events = ([right("old", 0), right("new", 1)], 50, [left("a", 60)], 70, [left("b", 71)])
    assert texts(found(AsOfJoin, *events)) == {"('k', ('a', 'new'))": 1, "('k', ('b', 'new'))": 1}
    assert texts(found(partial(AsOfJoin, tolerance="59s"), *events)) == {"('k', ('a', 'new'))": 1}
    assert not found(partial(AsOfJoin, tolerance=58), *events)


def test_of_rows_of_one_time_the_last_to_come_counts() -> None:
    assert texts(found(AsOfJoin, [right(1, 5), right(2, 5), left("a", 5)])) == {"('k', ('a', 2))": 1}


def gone(row: Any) -> bool:
    return row == "gone"


def test_a_table_as_state_changes_under_the_stream() -> None:
    events = (
        [left("a", 1)], [right("one", 2)], [left("b", 1)], [right("older", 1)], [left("c", 3)], [right("gone", 4)],
        [left("d", 5)], [right("older", 3)], [left("e", 6)], [right("two", 7)], [left("f", 0)],
    )  # fmt: skip
    made = found(partial(TableJoin, how="left", deleted=gone), *events)
    expected = {"a": None, "b": "one", "c": "one", "d": None, "e": None, "f": "two"}
    assert texts(made) == {f"('k', ({name!r}, {row!r}))": 1 for name, row in expected.items()}
    assert made["('k', ('f', 'two'))", 0] == 1
    assert texts(found(partial(TableJoin, how="anti", deleted=gone), *events)) == {
        f"('k', {name!r})": 1 for name in "ade"
    }


def test_a_table_as_a_side_input_is_replaced_window_by_window() -> None:
    class Replaced(beam.PTransform):
        def expand(self, sides: Any) -> Any:
            rows, table = sides
            rows = rows | "rows" >> beam.WindowInto(FixedWindows(5))
            return (rows, table | "table" >> beam.WindowInto(FixedWindows(10))) | TableJoin(table_as="side")

    events = ([right("one", 1), right("uno", 2)], [left("a", 3), left("b", 13)], 10, [right("two", 10)], 20)
    assert texts(found(Replaced, *events)) == {
        "('k', ('a', 'one'))": 1, "('k', ('a', 'uno'))": 1, "('k', ('b', 'two'))": 1,
    }  # fmt: skip


def test_a_result_is_typed() -> None:
    p = beam.Pipeline(runner=LocalRunner())
    sides = (p | "l" >> beam.Create(ORDERS), p | "r" >> beam.Create(CUSTOMERS))
    joined = sides | Join(on={"customer": "name"}, how="left")
    assert joined.element_type == beam.typehints.Tuple[Order, beam.typehints.Optional[Customer]]
    assert (sides | "semi" >> Join(on="id", how="semi")).element_type == Order


def test_timestamps_stay_with_null_keys() -> None:
    row = TimestampedValue((None, 1), 3)
    made = run(
        lambda p: (
            (p | "l" >> beam.Create([row]) | beam.Map(lambda row: row), p | "r" >> beam.Create([("k", 1)]))
            | Join(how="anti")
            | Keep("kept")
        )
    )
    assert made["kept"] == {("(None, 1)", 3): 1}
