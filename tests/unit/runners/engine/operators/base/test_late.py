"""Every step that drops elements as late counts them, the same in each way it may run, and warns once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows, Sessions, SlidingWindows

from sage.handle import StepProgress
from sage.runners.local import LocalRunner
from sage.runners.simulation.fault_schedule import FaultSchedule
from sage.sources import Batch, ReadStream, SplitReader, StreamSource
from sage.transforms import Deduplicate
from sage.transforms.joins import IntervalJoin
from tests.conformance.cases import stream

LATE = 7
WAYS = {
    "auto": [],
    "general": ["--execution_path=general"],
    "rocksdb": ["--state_backend=rocksdb"],
    "spills": ["--memory_limit=1000"],
}


class Counted(beam.DoFn):
    """Numbers the elements of a key."""

    COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())

    def process(self, pair: Any, count: Any = beam.DoFn.StateParam(COUNT)) -> Any:
        count.write((count.read() or 0) + 1)
        yield pair[0], count.read()


def fixed(rows: Any, **how: Any) -> Any:
    return rows | "windows" >> beam.WindowInto(FixedWindows(10), **how)


EARLY = {"trigger": AfterWatermark(early=AfterCount(1)), "accumulation_mode": AccumulationMode.DISCARDING}
STEPS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda rows: fixed(rows) | "late" >> beam.CombinePerKey(sum),
    "mean": lambda rows: fixed(rows) | "late" >> beam.combiners.Mean.PerKey(),
    "globally": lambda rows: (
        fixed(rows) | beam.Values() | "late" >> beam.CombineGlobally(sum).without_defaults()
    ),
    "group": lambda rows: fixed(rows) | "late" >> beam.GroupByKey(),
    "cogroup": lambda rows: {"left": fixed(rows)} | "late" >> beam.CoGroupByKey(),
    "session": lambda rows: rows | beam.WindowInto(Sessions(3)) | "late" >> beam.GroupByKey(),
    "session sum": lambda rows: rows | beam.WindowInto(Sessions(3)) | "late" >> beam.CombinePerKey(sum),
    "triggered": lambda rows: fixed(rows, **EARLY) | "late" >> beam.GroupByKey(),
    "state": lambda rows: fixed(rows) | "late" >> beam.ParDo(Counted()),
    "deduplicate": lambda rows: fixed(rows) | "late" >> Deduplicate(2),
}


class _Reader(SplitReader[Any]):
    """Gives what is on time, then what is late, each element in a turn of its own, and the watermark behind it."""

    def __init__(self, position: int, folder: str | None) -> None:
        self.at, self.rests, self.folder = position, False, folder

    def poll(self, limit: int) -> Batch | None:
        self.rests = not self.rests
        if self.rests or self.finished or not self._fired():
            return None
        stamp = Replay.STAMPS[self.at]
        self.at += 1
        return Batch([(f"k{self.at % 3}", 1)], [stamp * 1_000_000])

    def _fired(self) -> bool:
        """Whether what is late would be, at each worker."""
        return self.folder is None or self.at < 5 or len(os.listdir(self.folder)) == 3

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return max(Replay.STAMPS[: self.at], default=0) * 1_000_000

    @property
    def finished(self) -> bool:
        return self.at >= len(Replay.STAMPS)


class Replay(StreamSource[Any]):
    """Elements of three keys, of which `LATE` are behind the end of their windows.

    Args:
        folder: where a file for each key says that its window has fired; None not to wait for that.
    """

    STAMPS = (1, 2, 3, 15, 16, *range(1, 1 + LATE), 17, 30)
    max_poll_records = 1

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder

    def splits(self) -> Any:
        return [0]

    def reader(self, split: int, position: Any) -> _Reader:
        return _Reader(position or 0, self.folder)


def dropped(build: Callable[[beam.Pipeline], Any], *options: str) -> tuple[dict[str, int], dict[str, int]]:
    """How many elements each step has dropped, as its counter says and as its progress does."""
    pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(list(options)))
    build(pipeline)
    result: Any = pipeline.run()
    result.wait_until_finish()
    steps: list[StepProgress] = result.progress()
    found = result.metrics().query(MetricsFilter().with_name("numLateRecordsDropped"))["counters"]
    assert {counter.key.metric.namespace for counter in found} <= {"sage"}
    counted = {counter.key.step: counter.committed for counter in found}
    return counted, {step.name: step.late_dropped for step in steps if step.late_dropped}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", STEPS)
def test_what_a_step_drops_as_late_is_counted(step: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    counted, shown = dropped(lambda p: STEPS[step](p | ReadStream(Replay()) | beam.Map(pair)), *WAYS[way])
    assert counted == shown
    assert list(counted.values()) == [LATE]
    (name,) = counted
    assert name.startswith("late")
    warned = [record for record in caplog.records if "as late" in record.getMessage()]
    assert all(record.levelno == logging.WARNING and f"step '{name}'" in record.getMessage() for record in warned)
    assert len(warned) == 1
    assert "allowed_lateness" in warned[0].getMessage()


@pytest.mark.parametrize("step", ["sum", "mean", "group", "session", "session sum"])
def test_two_workers_drop_as_many_as_one(step: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build(p: beam.Pipeline) -> None:
        fired = STEPS[step](p | ReadStream(Replay(str(tmp_path))) | beam.Map(pair))
        fired | beam.Map(lambda result, folder=tmp_path: (folder / result[0]).touch())

    counted, shown = dropped(build, "--workers=2")
    assert counted == shown
    assert list(counted.values()) == [LATE]
    # One for each worker that has dropped some.
    assert 1 <= sum("as late" in record.getMessage() for record in caplog.records) <= 2


def pair(row: tuple[str, int]) -> tuple[str, int]:
    return row


def test_an_element_counts_for_each_of_its_windows_that_dropped_it() -> None:
    sliding = lambda p: (  # noqa: E731
        p
        | stream([(("k", 1), 12), (("k", 1), 3)], 7, [(("k", 1), 3), (("k", 1), 3)], 30, [(("k", 1), 12)])
        | beam.WindowInto(SlidingWindows(10, 5))
        | "late" >> beam.CombinePerKey(sum)
    )
    for options in ([], ["--execution_path=general"]):
        # Twice the one that ends with 5, then the two of 12.
        assert list(dropped(sliding, *options)[0].values()) == [4]


def test_an_interval_join_in_windows_counts_the_rows_of_both_sides() -> None:
    def build(p: beam.Pipeline) -> Any:
        rows = p | ReadStream(Replay()) | beam.Map(pair)
        left, right = (rows | side >> beam.WindowInto(FixedWindows(10)) for side in ("left", "right"))
        return (left, right) | "late" >> IntervalJoin(within=1)

    counted, _ = dropped(build)
    assert list(counted.values()) == [2 * LATE]


def test_nothing_is_counted_where_nothing_is_late(caplog: pytest.LogCaptureFixture) -> None:
    for lateness in (0, 100):
        rows = [(("k", 1), 1)], 15, [(("k", 1), 2 if lateness else 16)]
        build = lambda p, rows=rows, lateness=lateness: (  # noqa: E731
            p
            | stream(*rows)
            | beam.WindowInto(FixedWindows(10), allowed_lateness=lateness)
            | beam.CombinePerKey(sum)
        )
        assert dropped(build) == ({}, {})
    assert "as late" not in caplog.text


@pytest.mark.parametrize("seed", range(5))
def test_the_count_of_a_lifted_combine_is_that_of_elements_however_they_are_bundled(seed: int) -> None:
    dice, events, late, watermark = FaultSchedule(seed), [], 0, 0
    for _ in range(30):
        stamps = [dice.upto(60) for _ in range(dice.upto(8))]
        late += sum(stamp // 10 * 10 + 10 <= watermark for stamp in stamps)
        watermark += 1 + dice.upto(3)
        events += [[((f"k{stamp % 2}", 1), stamp) for stamp in stamps], watermark]
    build = lambda p: (  # noqa: E731
        p | stream(*events) | beam.WindowInto(FixedWindows(10)) | beam.CombinePerKey(sum)
    )
    assert late
    for options in ([], ["--execution_path=general"]):
        assert sum(dropped(build, *options)[0].values()) == late
