"""Sources that feed one grouping are read at about the same event time, and none waits for ever."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from sage.errors import ConfigError
from sage.options import SageOptions
from sage.runners.engine.core.blocks import MAX_MICROS
from sage.runners.engine.operators.reading.watermark_alignment import IDLE_MICROS, WatermarkAlignment, groups
from sage.runners.local import LocalRunner
from sage.runners.plan import plan_pipeline
from sage.runners.simulation.fault_schedule import FaultSchedule
from sage.sources import ReadStream
from tests.models.feeds import SECOND, Feed, Uneven, Workers, dataflow, goes_on, joined, most_held, rows_read

ROWS = 30_000


def test_a_join_of_a_fast_and_a_slow_stream_holds_about_as_much_as_one_of_even_streams() -> None:
    even = most_held(dataflow(Feed("a", None, 10), Feed("b", None, 10)), ROWS)
    uneven = most_held(dataflow(Feed("fast", None, 100), Feed("slow", None, 10)), ROWS)
    apart = most_held(dataflow(Feed("fast", None, 100), Feed("slow", None, 10), drift_micros=None), ROWS)
    assert uneven < 1.5 * even
    assert apart > 10 * even


@pytest.mark.parametrize("seed", range(3))
def test_the_same_holds_where_the_fast_and_the_slow_one_are_read_by_different_workers(seed: int) -> None:
    def most(fast: int, drift_micros: int | None = 5 * SECOND) -> int:
        # Each worker has one of the splits.
        return Workers(2, seed, Uneven("a", None, fast, splits=2), drift_micros=drift_micros).most_held(ROWS)

    even = most(10)
    assert most(100) < 1.5 * even
    assert most(100, drift_micros=None) > 10 * even


def test_the_splits_of_one_source_are_aligned_with_each_other() -> None:
    even = most_held(dataflow(Feed("a", None, 10, splits=3)), ROWS)
    assert most_held(dataflow(Uneven("a", None, 100, splits=3)), ROWS) < 1.5 * even


def test_the_drift_is_how_far_apart_they_are_read() -> None:
    held = [
        most_held(dataflow(Feed("fast", None, 40), Feed("slow", None, 4), drift_micros=drift), ROWS)
        for drift in (SECOND, 60 * SECOND, 600 * SECOND)
    ]
    # Ten rows of the fast one for each second more of drift.
    assert 500 < held[1] - held[0] < 700
    assert 5_000 < held[2] - held[1] < 6_000


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("drift", ["5s", "1ms", "none"])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_row_comes_and_the_job_ends(workers: int, drift: str, splits: int) -> None:
    options = [f"--workers={workers}", f"--max_watermark_drift={drift}"]
    feeds = Feed("fast", 2_000, 100, splits), Feed("slow", 1_000, 20, splits), Feed("other", 100, 7, splits)
    with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(options)) as pipeline:
        counts = joined(pipeline, *feeds) | beam.Map(lambda row: {name: len(rows) for name, rows in row[1].items()})
        whole = counts | beam.WindowInto(beam.window.FixedWindows(1_000_000))
        total = whole | beam.CombineGlobally(_Sum()).without_defaults()
        assert_that(total, equal_to([{"fast": 2_000 * splits, "slow": 1_000 * splits, "other": 100 * splits}]))


class _Sum(beam.CombineFn):
    def create_accumulator(self) -> Counter[str]:
        return Counter()

    def add_input(self, accumulator: Counter[str], counts: Any) -> Counter[str]:
        accumulator.update(counts)
        return accumulator

    def merge_accumulators(self, accumulators: Any) -> Counter[str]:
        return sum(accumulators, Counter())

    def extract_output(self, accumulator: Counter[str]) -> dict[str, int]:
        return dict(accumulator)


def _until(flow: Any, rows: int) -> int:
    """Runs until so many rows have come to the join (count); gives the time that takes (microseconds)."""
    flow.open()
    for _ in range(1_000_000):
        if rows_read(flow) >= rows or not goes_on(flow):
            break
    assert rows_read(flow) >= rows
    now = int(flow._job.clock.now_micros())
    flow.close()
    return now


@pytest.mark.parametrize("creeps", [False, True])
def test_one_that_has_nothing_to_give_keeps_the_others_waiting_for_a_while_only(creeps: bool) -> None:
    took = _until(dataflow(Feed("fast", None, 100), Feed("stands", None, 10, stands=50, creeps=creeps)), 10_000)
    assert IDLE_MICROS <= took < 2 * IDLE_MICROS


def test_one_that_gives_elements_and_knows_no_event_time_keeps_nobody_waiting() -> None:
    assert _until(dataflow(Feed("fast", None, 100), Feed("timeless", None, 1, knows_time=False)), 10_000) < IDLE_MICROS


def test_sources_are_one_group_where_their_elements_meet_at_a_step_with_keys() -> None:
    pipeline = beam.Pipeline()
    windows = beam.WindowInto(beam.window.FixedWindows(10))
    reads = [pipeline | name >> ReadStream(Feed(name, None, 10)) | f"windows {name}" >> windows for name in "abcde"]
    a, b, c, d, e = reads
    (a, b) | "meet" >> beam.Flatten() | "by key" >> beam.GroupByKey()
    c | "alone" >> beam.GroupByKey()
    (d, e) | "not by key" >> beam.Flatten() | beam.Map(print)
    plan = plan_pipeline(pipeline.to_runner_api(), 1)
    steps = [(stage, step.name) for stage in plan.stages for step in stage.steps]
    reading = {name[0]: stage.index for stage, name in steps if name.endswith("/Read")}
    found = groups(plan, list(reading.values()))
    assert sorted(found) == sorted([sorted([reading["a"], reading["b"]]), [reading["c"]]])


@pytest.mark.parametrize(("text", "value"), [("none", 0), ("0", 0), ("500ms", 500), ("1m", 60_000)])
def test_the_option(text: str, value: int) -> None:
    assert PipelineOptions([f"--max_watermark_drift={text}"]).view_as(SageOptions).max_watermark_drift == value
    with pytest.raises(ConfigError, match="max_watermark_drift"):
        PipelineOptions(["--max_watermark_drift=far"]).view_as(SageOptions)


class _Worker:
    """A member with splits at their watermarks; each ends at 1,000."""

    def __init__(self, me: int, workers: int, dice: FaultSchedule, sent: dict[tuple[int, int], deque[int]]) -> None:
        self.marks = [dice.upto(50) for _ in range(dice.upto(4))]
        others = [other for other in range(workers) if other != me]
        self.alignment: Any = WatermarkAlignment(20, others, lambda to, mark: sent[me, to].append(mark))
        self.alignment.members.append(self)

    def least_watermark(self, limit: int) -> int:
        return min(self.marks, default=MAX_MICROS)


@pytest.mark.parametrize("seed", range(60))
def test_workers_that_hear_of_each_other_late_keep_to_the_drift_and_come_to_the_end(seed: int) -> None:
    dice, now = FaultSchedule(seed), 0
    workers = 1 + dice.upto(3)
    sent: dict[tuple[int, int], deque[int]] = {(a, b): deque() for a in range(workers) for b in range(workers)}
    all_of = [_Worker(me, workers, dice, sent) for me in range(workers)]
    for _ in range(100_000):
        could: list[Any] = [(_Worker.__name__, me) for me, worker in enumerate(all_of) if _due(worker, now)]
        could += [channel for channel, marks in sent.items() if marks]
        if not could:
            times = [due for worker in all_of if (due := worker.alignment.due()) is not None]
            if not times:
                break
            now = max(now + 1, min(times))
            continue
        one = dice.one_of(could)
        if one[0] != _Worker.__name__:
            all_of[one[1]].alignment.hear(one[0], sent[one].popleft())
            continue
        worker = all_of[one[1]]
        worker.alignment.update(now)
        heard = not worker.alignment._silent
        for index, mark in enumerate(worker.marks):
            if mark <= worker.alignment.limit:
                least = min(mark for each in all_of for mark in each.marks)
                assert not heard or mark <= least + 20
                worker.marks[index] = mark + 1 + dice.upto(10)
        worker.marks = [mark for mark in worker.marks if mark < 1_000]
        worker.alignment.update(now)
        now += dice.upto(2_000)
    assert [worker.marks for worker in all_of] == [[]] * workers


def _due(worker: _Worker, now: int) -> bool:
    due = worker.alignment.due()
    return any(mark <= worker.alignment.limit for mark in worker.marks) or (due is not None and due <= now)
