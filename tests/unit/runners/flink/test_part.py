"""A job's parts handed records by a loop in this process: the same code that Flink's processes run, on any schedule."""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from sage.errors import StepError
from sage.runners.deployment.worker_spec import WorkerSpec
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.flink.levels import depth
from sage.runners.flink.part import DRIVER, Part, Record
from sage.runners.local import LocalRunner


def orders_of(build: Callable[[beam.Pipeline], Any], workers: int) -> list[WorkerSpec]:
    pipeline = beam.Pipeline(runner=LocalRunner())
    build(pipeline)
    proto = pipeline.to_runner_api().SerializeToString()
    return [
        WorkerSpec(proto, worker, workers, JobOptions(), None, tuple(sys.path), os.getcwd())
        for worker in range(workers)
    ]


def run(orders: list[WorkerSpec], seed: int) -> list[Any]:
    """Runs all parts to their end and gives their reports. Records of one sender to one part keep their order; which
    part goes next is drawn."""
    dice = random.Random(seed)
    levels = depth(orders[0].plan())
    parts = {(level, order.worker): Part(order, level) for level in range(levels) for order in orders}
    # From an operator to the next there is one channel for each pair of workers.
    channels: dict[tuple[int, int, int], deque[Record | None]] = defaultdict(deque)
    for order in orders:
        channels[0, order.worker, order.worker].append(None)
    reports = []
    while waiting := [place for place, records in channels.items() if records]:
        level, sender, worker = dice.choice(waiting)
        for out in parts[level, worker].take(channels[level, sender, worker].popleft()):
            if level + 1 < levels:
                channels[level + 1, worker, out.worker].append(out)
            else:
                assert out.level == DRIVER
                reports.append(pickle.loads(out.content[1]))
    return reports


def to_file(folder: Path) -> Callable[[Any], None]:
    def write(value: Any) -> None:
        with open(folder / "values", "a", encoding="utf-8") as file:
            file.write(f"{value}\n")

    return write


def written(folder: Path) -> list[str]:
    return sorted((folder / "values").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_any_schedule_gives_the_same_groups(tmp_path: Path, workers: int, seed: int) -> None:
    def build(p: beam.Pipeline) -> Any:
        numbers = p | beam.Create(range(50)) | beam.Reshuffle()
        counts = numbers | beam.Map(lambda x: x % 5) | beam.combiners.Count.PerElement()
        return (
            numbers
            | "sided" >> beam.Map(lambda x, counts: (x % 3, counts[x % 5]), beam.pvalue.AsDict(counts))
            | beam.CombinePerKey(sum)
            | beam.Map(to_file(tmp_path))
        )

    reports = run(orders_of(build, workers), seed)
    assert written(tmp_path) == ["(0, 170)", "(1, 170)", "(2, 160)"]
    done = [report for report in reports if report[0] == "done"]
    assert len(done) == workers * depth(orders_of(build, workers)[0].plan())


def test_a_failure_comes_out_as_one_report_and_the_rest_is_dropped() -> None:
    def fail(value: Any) -> Any:
        raise ValueError(value)

    def build(p: beam.Pipeline) -> Any:
        return p | beam.Create(range(9)) | beam.Reshuffle() | "fail" >> beam.Map(fail) | beam.GroupByKey()

    orders = orders_of(build, 2)
    reports = run(orders, seed=1)
    failed = [report[1] for report in reports if report[0] == "failed"]
    # Both workers have elements that fail. The level behind them hears of no end, so it does not report one.
    assert len(failed) == 2
    ends = [report for report in reports if report[0] != "progress"]
    assert len(ends) == 2 * (depth(orders[0].plan()) - 1)
    assert all(isinstance(error, StepError) and error.step == "fail" for error in failed)


def test_a_record_for_a_later_level_passes_by() -> None:
    part = Part(orders_of(lambda p: p | beam.Impulse(), 1)[0], 0)
    later = Record(0, 3, (7, 0, 0, b"never decoded here"))
    assert list(part.take(later)) == [later]


def test_a_part_closed_early_tears_its_steps_down_and_does_nothing_more(tmp_path: Path) -> None:
    class Told(beam.DoFn):
        def process(self, element: Any) -> Iterator[Any]:
            yield element

        def teardown(self) -> None:
            to_file(tmp_path)("teardown")

    order = orders_of(lambda p: p | beam.Impulse() | beam.ParDo(Told()) | beam.Reshuffle(), 2)[0]
    part = Part(order, 0)
    next(part.take(None))
    part.close()
    assert written(tmp_path)[0] == "teardown"
    assert list(part.take(None)) == []
