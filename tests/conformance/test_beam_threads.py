"""Reports of apache/beam about streams that stall or fire wrongly on its local runners: what was asked for works here.

Each test has the number of its thread. None reads Kafka: what stalls there is the runner, whatever the source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import PickleCoder, VarIntCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Duration, Timestamp

from sage.runners.local import LocalRunner
from tests.patience import patience

POLL_SECONDS = 0.02
PATIENCE_SECONDS = patience(20.0)
SLOW_SECONDS = 0.02


class Endless(beam.RestrictionProvider):
    """All numbers from 0: a restriction that no poll brings to its end."""

    def initial_restriction(self, element: Any) -> OffsetRange:
        return OffsetRange(0, 1 << 40)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:
        return 1

    def truncate(self, element: Any, restriction: OffsetRange) -> None:
        return None


class Poll(beam.DoFn):
    """Two records a poll, a second of event time apart, as a consumer of a topic gives what has arrived."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Any,
        tracker: Any = beam.DoFn.RestrictionParam(Endless()),
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterator[TimestampedValue]:
        first = tracker.current_restriction().start
        for number in (first, first + 1):
            if not tracker.try_claim(number):
                return
            yield TimestampedValue(number, number)
            estimator.set_watermark(Timestamp(number))
        tracker.defer_remainder(Duration(POLL_SECONDS))


def note(path: str) -> beam.ParDo:
    """A step that appends what it sees to a file."""

    def write(element: Any) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{element!r}\n")

    return beam.Map(write)


def seen_while_it_runs(build: Callable[[beam.Pipeline, str], Any], path: Path, *options: str) -> list[str]:
    """Starts a job without an end, waits until three lines have come out of it, and cancels it."""
    pipeline = beam.Pipeline(LocalRunner(), options=PipelineOptions(["--streaming", *options]))
    build(pipeline, str(path))
    job = pipeline.run()
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        lines: list[str] = []
        while len(lines) < 3 and time.monotonic() < until and not PipelineState.is_terminal(str(job.state)):
            time.sleep(POLL_SECONDS)
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        assert not PipelineState.is_terminal(str(job.state))
    finally:
        job.cancel()
        job.wait_until_finish()
    return lines


@pytest.mark.parametrize("options", [(), ("--workers=2",)], ids=["one worker", "two workers"])
def test_22809_a_grouping_behind_an_unbounded_read_gives_its_windows(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Reported: nothing ever comes out of a GroupByKey behind a stream that is read without a limit."""

    def build(pipeline: beam.Pipeline, path: str) -> None:
        (
            pipeline
            | beam.Impulse()
            | "read" >> beam.ParDo(Poll())
            | beam.WindowInto(FixedWindows(4))
            | beam.Map(lambda number: ("records", number))
            | beam.GroupByKey()
            | beam.MapTuple(lambda key, numbers: sorted(numbers))
            | note(path)
        )

    lines = seen_while_it_runs(build, tmp_path / "seen", *options)
    assert lines[:3] == ["[0, 1, 2, 3]", "[4, 5, 6, 7]", "[8, 9, 10, 11]"]


def test_25114_records_are_handed_on_while_the_read_goes_on(tmp_path: Path) -> None:
    """Reported: without ``max_num_records`` the step behind the read never sees a record."""

    def build(pipeline: beam.Pipeline, path: str) -> None:
        pipeline | beam.Impulse() | "read" >> beam.ParDo(Poll()) | note(path)

    assert seen_while_it_runs(build, tmp_path / "seen")[:3] == ["0", "1", "2"]


class Slow(beam.DoFn):
    """Takes longer for an element than a bundle may be open, and notes each."""

    def __init__(self, path: str) -> None:
        self.path = path

    def process(self, element: tuple[int, int]) -> Iterator[tuple[int, int]]:
        line(self.path, "plain", element)
        time.sleep(SLOW_SECONDS)
        yield element


class Stateful(beam.DoFn):
    """Hands on what it gets, and notes each."""

    VALUES = ReadModifyWriteStateSpec("values", PickleCoder())

    def __init__(self, path: str) -> None:
        self.path = path

    def process(
        self, element: tuple[int, int], values: Any = beam.DoFn.StateParam(VALUES)
    ) -> Iterator[tuple[int, int]]:
        line(self.path, "stateful", element)
        yield element


def line(path: str, *words: Any) -> None:
    """Appends a line to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def handed_on(path: Path, *options: str) -> list[str]:
    """The steps' names in the order in which ten elements of a key came to them: one that is slow, one with state and a
    last one.
    """
    given = ["--streaming", f"--max_bundle_time={SLOW_SECONDS / 2}s", *options]
    with beam.Pipeline(LocalRunner(), options=PipelineOptions(given)) as pipeline:
        (
            pipeline
            | beam.Create([(1, number) for number in range(10)])
            | "plain" >> beam.ParDo(Slow(str(path)))
            | "stateful" >> beam.ParDo(Stateful(str(path)))
            | "last" >> beam.Map(lambda element: line(str(path), "last", element))
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == sorted(f"{step} (1, {n})" for step in ("plain", "stateful", "last") for n in range(10))
    return [text.split()[0] for text in lines]


def test_25709_a_stateful_step_has_each_element_before_the_step_ahead_has_the_next(tmp_path: Path) -> None:
    """Reported: the stateful step gets nothing before the one ahead of it is through with all there is."""
    assert handed_on(tmp_path / "seen") == ["plain", "stateful", "last"] * 10


def test_25709_at_another_worker_too_elements_come_while_there_are_more(tmp_path: Path) -> None:
    """The same: what is worked on here and there comes together at the worker that has the key."""
    steps = handed_on(tmp_path / "seen", "--workers=2")
    assert steps[: steps.index("last")].count("plain") < 10


class Batch(beam.DoFn):
    """Gathers elements until there are enough; a timer tells of those that wait too long.

    Args:
        size: how many elements make a batch (count).
        delay: after how long in event time the first of a batch has waited enough (s).
        begins_anew: whether another batch follows.
        clears: whether a batch that is full takes back its timer.
    """

    ELEMENTS = BagStateSpec("elements", VarIntCoder())
    COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())
    LATE = TimerSpec("late", TimeDomain.WATERMARK)

    def __init__(self, size: int, delay: int, begins_anew: bool = True, clears: bool = True) -> None:
        self.size, self.delay = size, delay
        self.begins_anew, self.clears = begins_anew, clears

    def process(
        self,
        element: tuple[str, int],
        stamp: Any = beam.DoFn.TimestampParam,
        elements: Any = beam.DoFn.StateParam(ELEMENTS),
        count: Any = beam.DoFn.StateParam(COUNT),
        late: Any = beam.DoFn.TimerParam(LATE),
    ) -> Iterator[Any]:
        number = (count.read() or 0) + 1
        elements.add(element[1])
        if number == 1:
            late.set(stamp + self.delay)
        if number == self.size:
            yield "full", sorted(elements.read())
            elements.clear()
            if self.clears:
                late.clear()
            if self.begins_anew:
                number = 0
        count.write(number)

    @on_timer(LATE)
    def too_late(
        self, stamp: Any = beam.DoFn.TimestampParam, elements: Any = beam.DoFn.StateParam(ELEMENTS)
    ) -> Iterator[Any]:
        yield "late", stamp.micros // 1_000_000, sorted(elements.read())


def batched(batch: Batch, expected: list[Any], together: int = 1) -> None:
    """15 elements a second apart, so many in one bundle, each bundle followed by the watermark of its last."""
    stream = test_stream.TestStream().advance_watermark_to(-1)
    for first in range(0, 15, together):
        stream.add_elements([TimestampedValue(("k", n), n) for n in range(first, first + together)])
        stream.advance_watermark_to(first + together - 1)
    with beam.Pipeline(LocalRunner(), options=PipelineOptions(["--streaming"])) as pipeline:
        found = pipeline | stream.advance_watermark_to(MAX_TIMESTAMP) | beam.ParDo(batch)
        assert_that(found, equal_to(expected))


FULL = [("full", [0, 1, 2, 3, 4]), ("full", [5, 6, 7, 8, 9]), ("full", [10, 11, 12, 13, 14])]


@pytest.mark.parametrize("together", [1, 3, 5, 15])
def test_35090_a_timer_that_is_taken_back_in_time_never_fires(together: int) -> None:
    """Reported: a timer ten seconds ahead fires before the watermark is there, for a batch full after five."""
    batched(Batch(5, 10), FULL, together)


@pytest.mark.parametrize("together", [1, 3, 5, 15])
def test_35168_a_timer_keeps_what_was_last_said_of_it(together: int) -> None:
    """Reported: a timer that was cleared in a later bundle fires all the same, one that was left alone too soon."""
    first = FULL[:1]
    batched(Batch(5, 10, begins_anew=False), first, together)
    end = -(-11 // together) * together  # the bundle with the eleventh element is done before the watermark is there
    batched(Batch(5, 10, begins_anew=False, clears=False), [*first, ("late", 10, list(range(5, end)))], together)


def test_35168_a_timer_fires_between_two_elements_if_the_watermark_is_there() -> None:
    """Set two seconds ahead, it is due when the third element's watermark has come, and then not again."""
    late = [("late", start + 2, list(range(start, start + 3))) for start in (0, 5, 10)]
    batched(Batch(5, 2), [*FULL, *late])
