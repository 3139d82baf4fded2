"""Workers that send each other more than may be on its way: none waits forever, and memory is bounded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest

from tests.models.cluster import Sink, Threads

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    Sink.found.clear()
    yield
    Sink.found.clear()


def keep(value: Any) -> None:
    Sink.put(value)


def twenty(number: int) -> list[int]:
    return [number * 20 + offset for offset in range(20)]


def chain(p: beam.Pipeline) -> None:
    """Exchanges one behind the other, each with more going in both directions than the one before."""
    values = p | beam.Create([0, 1], reshuffle=False) | "a" >> beam.FlatMap(twenty) | "s1" >> beam.Reshuffle()
    values = values | "b" >> beam.FlatMap(twenty) | "s2" >> beam.Reshuffle()
    values = values | "c" >> beam.FlatMap(twenty) | "s3" >> beam.Reshuffle()
    grouped = values | beam.Map(lambda v: (v % 97, v)) | beam.GroupByKey() | beam.FlatMapTuple(lambda _, vs: vs)
    grouped | "s4" >> beam.Reshuffle() | "keep" >> beam.Map(keep)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("credit", [0, 1000])
def test_a_chain_of_exchanges_ends_with_next_to_no_credit(workers: int, credit: int) -> None:
    cluster = Threads(workers, credit, block_rows=16)
    cluster.run(chain)
    assert Counter(range(2 * 20**3)) == Sink.found
    assert cluster.most_owed <= credit + cluster.largest


def test_blocks_larger_than_the_credit_pass_one_at_a_time() -> None:
    cluster = Threads(2, MEGABYTE // 10, block_rows=64)

    def build(p: beam.Pipeline) -> None:
        large = p | beam.Create(range(24), reshuffle=False) | "grow" >> beam.Map(lambda n: (n, b"x" * (2 * MEGABYTE)))
        for step in ("one", "two", "three"):
            large = large | step >> beam.Reshuffle()
        large | beam.MapTuple(lambda n, data: (n, len(data))) | "keep" >> beam.Map(keep)

    cluster.run(build)
    assert Counter((n, 2 * MEGABYTE) for n in range(24)) == Sink.found
    assert cluster.most_owed <= MEGABYTE // 10 + cluster.largest


def slowly(value: int) -> int:
    if value % 50 == 0:
        time.sleep(0.002)
    return value


def test_what_waits_for_a_slow_step_is_bounded_at_its_sender() -> None:
    """The slow step is busy while its blocks come: the credit of those is not given back before it takes them up."""
    cluster = Threads(2, 2000, block_rows=16)

    def build(p: beam.Pipeline) -> None:
        many = p | beam.Create([0, 1], reshuffle=False) | "s1" >> beam.Reshuffle() | beam.FlatMap(
            lambda n: range(n * 4000, (n + 1) * 4000)
        )
        slow = many | "s2" >> beam.Reshuffle() | beam.Map(slowly)
        slow | "s3" >> beam.Reshuffle() | "keep" >> beam.Map(keep)

    cluster.run(build)
    assert Counter(range(8000)) == Sink.found
    assert cluster.most_owed <= 2000 + cluster.largest


def test_side_inputs_come_to_every_worker_under_the_same_credit() -> None:
    cluster = Threads(3, 100, block_rows=8)

    def build(p: beam.Pipeline) -> None:
        numbers = p | beam.Create(range(200), reshuffle=False) | "s1" >> beam.Reshuffle()
        side = numbers | "side" >> beam.Map(lambda n: n + 1)
        summed = numbers | "s2" >> beam.Reshuffle() | beam.Map(lambda n, s: (n, sum(s)), beam.pvalue.AsIter(side))
        summed | "keep" >> beam.Map(keep)

    cluster.run(build)
    assert Counter((n, 20100) for n in range(200)) == Sink.found
