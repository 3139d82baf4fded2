"""``Map -> Filter -> CombinePerKey(sum)`` behind a generating DoFn: the cost of the machinery an element meets."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from tests.benchmarks import beams
from tests.benchmarks.measure import OURS, Failed, Row, Settings, compare, installed, rounds

NAME = "pipeline"
WARM_UP = 1_000
KEYS = 1_000


def pair(number: int) -> tuple[int, int]:
    """The user's Map."""
    return number % KEYS, number


def keep(element: tuple[int, int]) -> bool:
    """The user's Filter: half of the keys pass."""
    return element[1] & 1 == 0


def expected(size: int) -> dict[int, int]:
    """The answer in closed form: key k holds the sum of k, k+1000, k+2000 ... below ``size``."""
    answer = {}
    for key in range(0, min(size, KEYS), 2):
        count = (size - key + KEYS - 1) // KEYS
        answer[key] = count * key + KEYS * count * (count - 1) // 2
    return answer


def check(answer: dict[int, int], size: int) -> None:
    """Raise Failed unless the answer is right."""
    if answer != expected(size):
        raise Failed(f"wrong sums for {size} elements: {len(answer)} keys, {len(expected(size))} expected")


def chain(numbers: beam.PCollection[int]) -> beam.PCollection[tuple[int, int]]:
    """The measured steps."""
    return (
        numbers
        | "pair" >> beam.Map(pair)
        | "keep" >> beam.Filter(keep)
        | "sum" >> beam.CombinePerKey(sum)
        | "collect" >> beam.ParDo(beams.Collect())
    )


def run_on(name: str, size: int) -> None:
    """The pipeline behind the generating DoFn on a Beam runner."""
    pipeline = beam.Pipeline(runner=beams.runner(name), options=beams.options())
    chain(pipeline | beam.Create([size]) | "numbers" >> beam.ParDo(beams.Numbers()))
    pipeline.run().wait_until_finish()
    check(dict(beams.collected()), size)


def run_sage(size: int) -> None:
    run_on("sage", size)


def run_fnapi(size: int) -> None:
    run_on("fnapi", size)


def run_loop(size: int) -> None:
    """What a person would write by hand, calling the same user functions."""
    sums: dict[int, int] = {}
    for number in beams.Numbers().process(size):
        element = pair(number)
        if keep(element):
            key, value = element
            sums[key] = sums.get(key, 0) + value
    check(sums, size)


def run_bytewax(size: int) -> None:
    """Bytewax with batches of 10,000 and a stateful sum; its keys have to be strings, which costs it a little."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, TestingSource, run_main

    def shape(batch: list[int]) -> list[tuple[str, int]]:
        return [(str(kv[0]), kv[1]) for kv in map(pair, batch) if keep(kv)]

    out: list[Any] = []
    flow = Dataflow("pipeline")
    numbers = op.input("numbers", flow, TestingSource(beams.Numbers().process(size), batch_size=10_000))
    pairs = op.flat_map_batch("shape", numbers, shape)
    sums = op.fold_final("sum", pairs, int, int.__add__)
    op.output("out", sums, TestingSink(out))
    run_main(flow)
    check({int(key): total for key, total in out}, size)


def bench(settings: Settings) -> list[Row]:
    """Ours against the peers; a peer slower by an order gets smaller sizes, since only slopes are compared."""
    large = settings.pick(1_000_000, 3_000_000)
    ways = {
        OURS: (large // 10, large),
        "fnapi": (large // 20, large // 2),
        "loop": (large // 10, large),
    }
    if installed("bytewax"):
        ways["bytewax"] = (large // 20, large // 2)
    turns = rounds(settings, NAME, ways, settings.pick(3, 5))
    rows = [
        compare(NAME, "against FnApiRunner", turns, "fnapi", 6.0),
        compare(NAME, "against the hand-written loop", turns, "loop", 0.7),
    ]
    if "bytewax" in ways:
        rows.append(compare(NAME, "against Bytewax", turns, "bytewax", None))
    return rows
