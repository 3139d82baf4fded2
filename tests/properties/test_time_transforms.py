"""Deduplication, the top, late elements: each against a slow, obvious version, on random input."""

from __future__ import annotations

from collections import Counter
from typing import Any

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, Sessions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.runners.local import LocalRunner
from sage.transforms.deduplicate import Deduplicate
from sage.transforms.top import TopPerKey
from tests.conformance.cases import stream
from tests.models.timeline import Keep, numbers, run, split_late


def kept(transform: Any, *events: Any) -> Counter[Any]:
    return run(lambda p: p | stream(*events) | transform | Keep("kept")).get("kept", Counter())


def first_of(events: Any, within: int) -> Counter[Any]:
    """What passes, slowly: whatever is not near to what passed before it."""
    passed: list[Any] = []
    for key, number, stamp in events:
        if all(key != other or abs(stamp - when) >= within for other, _, when in passed):
            passed.append((key, number, stamp))
    return Counter((repr((key, number)), stamp) for key, number, stamp in passed)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["a", None]), st.integers(0, 12)), max_size=14), st.data())
def test_what_is_a_duplicate_does_not_depend_on_the_watermark(made: Any, data: Any) -> None:
    within = 3
    events = [(key, number, stamp) for number, (key, stamp) in enumerate(made)]
    parts: list[Any] = []
    mark = -1
    for place, (key, number, stamp) in enumerate(events):
        parts.append([((key, number), stamp)])
        # As far ahead as it is promised: elements may be behind it by less than `within`.
        least = min((time for *_, time in events[place + 1 :]), default=12) + within - 1
        if least > mark and data.draw(st.booleans()):
            mark = least
            parts.append(mark)
    assert kept(Deduplicate(within), *parts) == first_of(events, within)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.integers(0, 39) | st.tuples(st.integers(0, 9)), max_size=20),
    st.sampled_from([FixedWindows(10), Sessions(4)]),
    st.sampled_from([0, 3]),
)
def test_every_element_is_grouped_or_told_late(made: Any, windows: Any, lateness: int) -> None:
    """A tuple moves the watermark on by as much."""
    parts: list[Any] = []
    late, number, mark = [], 0, 0
    for event in made:
        if isinstance(event, int):
            parts.append([event])
            end = event + 4 if isinstance(windows, Sessions) else (event // 10 + 1) * 10
            if end + lateness <= mark:
                late.append(number)
            number += 1
        elif event[0]:
            mark += event[0]
            parts.append(mark)
    found = split_late(parts, windows, lateness)
    assert numbers(found, "late") == late
    assert sorted(numbers(found, "in") + late) == list(range(number))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-5, 5) | st.none()), max_size=20), st.integers(1, 5))
def test_the_top_is_what_sorting_gives(pairs: Any, n: int) -> None:
    expected = [
        (key, sorted((v for k, v in pairs if k == key), key=lambda v: (v is None, -(v or 0)))[:n])
        for key in Counter(key for key, _ in pairs)
    ]
    with beam.Pipeline(runner=LocalRunner()) as p:
        assert_that(p | beam.Create(pairs) | TopPerKey(n), equal_to(expected))
