"""Elements whose windows are closed go to an output of their own, and no other is lost."""

from __future__ import annotations

from collections import Counter

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, Sessions, SlidingWindows, TimestampedValue

import sage
from sage.runners.local import LocalRunner
from sage.transforms import WindowWithLateOutput
from tests.conformance.cases import stream
from tests.models.timeline import Keep, numbers, run, split_late


def test_what_is_late_comes_out_by_itself_with_its_timestamp() -> None:
    found = split_late([[1, 9], 10, [2, 11], 25, [3, 12, 26]], FixedWindows(10))
    assert numbers(found, "in") == [0, 1, 3, 6]
    assert found["late"] == {("('k', 2)", 2): 1, ("('k', 4)", 3): 1, ("('k', 5)", 12): 1}


def test_allowed_lateness_is_not_late() -> None:
    found = split_late([[1], 15, [2], 19.999, [3], 20, [4]], sage.TumblingWindows("10s"), "10s")
    assert numbers(found, "in") == [0, 1, 2]
    assert numbers(found, "late") == [3]


def test_one_of_several_windows_that_is_open_is_enough() -> None:
    found = split_late([[1, 12], 11, [2, 7]], SlidingWindows(10, 5))
    assert numbers(found, "late") == [2]
    assert Counter(numbers(found, "in")) == {0: 2, 1: 2, 3: 1}


def test_sessions_count_before_they_merge() -> None:
    found = split_late([[0, 4], 7, [1, 3]], Sessions(5))
    assert (numbers(found, "in"), numbers(found, "late")) == ([0, 1, 3], [2])


def test_the_accumulation_of_a_trigger_is_passed_on() -> None:
    early = beam.transforms.trigger.AfterWatermark(early=beam.transforms.trigger.AfterCount(1))
    found = split_late([[1], [2]], FixedWindows(10), trigger=early, accumulation="accumulating")
    assert Counter(numbers(found, "in"))[0] > 1


def test_what_a_grouping_puts_out_is_on_time() -> None:
    """It comes out when the watermark is past it, but before any later step knows."""

    def build(p: beam.Pipeline) -> None:
        sums = (
            p
            | stream([(("k", n), n) for n in (1, 2, 11)], 12)
            | beam.WindowInto(FixedWindows(10))
            | beam.CombinePerKey(sum)
        )
        on_time, late = sums | WindowWithLateOutput(FixedWindows(10))
        on_time | "again" >> beam.CombinePerKey(sum) | Keep("in")
        late | Keep("late")

    assert run(build) == {"in": {("('k', 3)", 9.999999): 1, ("('k', 11)", 19.999999): 1}}


def test_a_batch_has_no_late_elements() -> None:
    with beam.Pipeline(runner=LocalRunner()) as p:
        rows = p | beam.Create([("k", 1), ("k", 12), ("k", 3)]) | beam.Map(lambda pair: TimestampedValue(pair, pair[1]))
        on_time, late = rows | WindowWithLateOutput(FixedWindows(10))
        assert_that(on_time | beam.CombinePerKey(sum), equal_to([("k", 4), ("k", 12)]))
        assert_that(late, equal_to([]), label="late")
