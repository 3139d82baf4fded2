"""Two worker processes against one on a CPU-bound DoFn of 20 microseconds an element."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from tests.benchmarks import beams
from tests.benchmarks.measure import OURS, Row, Settings, compare, rounds

NAME = "workers"
WARM_UP = 200
MICROSECONDS = 20


def spin(turns: int) -> int:
    """Work that only a processor can do."""
    total = 0
    for number in range(turns):
        total += number & 3
    return total


@functools.lru_cache(maxsize=1)
def turns_of_20_microseconds() -> int:
    """How many turns take 20 microseconds here, at best of many tries: calibrated once, before any clock runs."""
    turns, best = 10_000, float("inf")
    for _ in range(30):
        started = time.perf_counter()
        spin(turns)
        best = min(best, time.perf_counter() - started)
    return max(1, round(turns * MICROSECONDS * 1e-6 / best))


class Work(beam.DoFn):
    """Spins, then gives one for each element."""

    def __init__(self, turns: int) -> None:
        self.turns = turns

    def process(self, element: int) -> Iterable[int]:
        spin(self.turns)
        yield 1


def run_workers(size: int, workers: int, turns: int) -> None:
    """n elements, spread by a reshuffle, worked on, counted."""
    options = beams.options(f"--workers={workers}")
    with beam.Pipeline(runner=beams.runner("sage"), options=options) as pipeline:
        counted = (
            pipeline
            | beam.Create([size])
            | "numbers" >> beam.ParDo(beams.Numbers())
            | beam.Reshuffle()
            | "work" >> beam.ParDo(Work(turns))
            | beam.CombineGlobally(sum)
        )
        assert_that(counted, equal_to([size]))


def run_sage(size: int, turns: int) -> None:
    run_workers(size, 2, turns)


def run_one(size: int, turns: int) -> None:
    run_workers(size, 1, turns)


def bench(settings: Settings) -> list[Row]:
    """Two workers against one; needs two processors with nothing else to do."""
    large = settings.pick(100_000, 300_000)
    turns = turns_of_20_microseconds()
    ways = {OURS: (large // 5, large), "one": (large // 5, large)}
    measured = rounds(settings, NAME, ways, settings.pick(2, 5), turns=turns)
    return [compare(NAME, f"--workers=2 against 1, {MICROSECONDS} µs an element", measured, "one", 1.6, cpu=False)]
