"""What is due next, whatever was set, moved and taken out before."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sage.runners.engine.core.deadlines import DeadlineQueue

THINGS = st.sampled_from("abcde")
TIMES = st.integers(0, 20)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), THINGS, st.one_of(st.none(), TIMES)),
        st.tuples(st.just("take"), TIMES),
        st.tuples(st.just("clear")),
    )
)


@given(ACTIONS)
def test_it_is_a_dictionary_that_knows_its_least_value(actions: list[Any]) -> None:
    due = DeadlineQueue()
    twin: dict[str, int] = {}
    for what, *how in actions:
        if what == "set":
            thing, time = how
            due.set(thing, time)
            twin.pop(thing, None)
            if time is not None:
                twin[thing] = time
        elif what == "take":
            taken = due.pop_due(how[0])
            assert set(taken) == {thing for thing, time in twin.items() if time <= how[0]}
            times = [twin.pop(thing) for thing in taken]
            assert times == sorted(times)
        else:
            due.clear()
            twin.clear()
        assert due.times == twin
        assert due.earliest() == min(twin.values(), default=None)


def test_times_that_were_moved_do_not_pile_up() -> None:
    due = DeadlineQueue()
    for time in range(10_000):
        due.set("thing", time)
    assert len(due) == 1
    assert due.pending < 200
