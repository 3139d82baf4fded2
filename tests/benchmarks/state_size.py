"""A count per key over more keys than memory should hold: peak memory and rate of RocksDB against live objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from tests.benchmarks import beams
from tests.benchmarks.measure import Failed, Row, Settings, child_command, human, installed, parse_turn
from tests.benchmarks.memory import MEGABYTE, peak_of

NAME = "state_size"
ROUNDS = 2


class Keys(beam.DoFn):
    """Each of n keys once in each round, in no order."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    def process(self, element: int) -> Iterator[tuple[int, int]]:
        for number in range(self._rounds * element):
            yield number * 7_919 % element, 1


class CountPerKey(beam.DoFn):
    """Puts out 1 when a key was seen in every round."""

    COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    def process(self, element: tuple[int, int], count: Any = beam.DoFn.StateParam(COUNT)) -> Iterator[int]:
        seen = (count.read() or 0) + element[1]
        count.write(seen)
        if seen == self._rounds:
            yield 1


def run_sage(size: int, backend: str, rounds: int = ROUNDS) -> None:
    """Count ``size`` keys, each ``rounds`` times, and see that none is lost."""
    options = beams.options(f"--state_backend={backend}")
    with beam.Pipeline(runner=beams.runner("sage"), options=options) as pipeline:
        whole = (
            pipeline
            | beam.Create([size])
            | "keys" >> beam.ParDo(Keys(rounds)).with_output_types(tuple[int, int])
            | "count" >> beam.ParDo(CountPerKey(rounds)).with_output_types(int)
            | "add up" >> beam.CombineGlobally(sum)
        )
        assert_that(whole, equal_to([size]))


def bench(settings: Settings) -> list[Row]:
    """Peak memory of both backends; a run that takes longer than five minutes has failed."""
    if not Path("/proc/self/stat").exists():
        return [Row(NAME, "a count per key", None, note="needs /proc, which this system has not")]
    if not installed("rocksdict"):
        return [Row(NAME, "a count per key", None, note="needs the extra rocksdb")]
    size = settings.pick(1_000_000, 10_000_000)
    rows = []
    for backend, asked in (("rocksdb", 1_000), ("memory", None)):
        what = f"peak RSS of a count over {size / 1e6:g} M keys, --state_backend={backend}"
        command = child_command(NAME, "sage", [size], backend=backend)
        try:
            peak, _, stdout, stderr = peak_of(command, 300)
            rate = ROUNDS * size / parse_turn(stdout, stderr).walls[0]
            row = Row(NAME, what, peak / MEGABYTE, asked, "MB", False, f"{human(rate)} elements/s, result checked")
        except Failed as error:
            row = Row(NAME, what, None, asked, "MB", False, str(error))
        settings.say(f"{what}: {row.verdict} {row.value or ''} {row.note}")
        rows.append(row)
    return rows
