"""Values of a plain function are gathered in lists, and the function is called before there are too many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.runners.engine.operators.grouping.combine import PreCombineOp
from sage.runners.local import LocalRunner

LONGEST: list[int] = []
SEEN: dict[int, int] = {}


def total(values: Iterable[int]) -> int:
    values = list(values)
    LONGEST.append(len(values))
    return sum(values)


def spread(count: int, keys: int) -> Iterator[tuple[int, int]]:
    for number in range(count):
        yield number % keys, number


def see(pair: tuple[int, int]) -> None:
    SEEN[pair[0]] = pair[1]


def run(rows: Any, count: int, keys: int, way: str) -> None:
    LONGEST.clear()
    SEEN.clear()
    pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--execution_path={way}"]))
    pipeline | beam.Create([count]) | rows | beam.CombinePerKey(total) | beam.Map(see)
    pipeline.run().wait_until_finish()
    assert {key: sum(range(key, count, keys)) for key in range(keys)} == SEEN


@pytest.mark.parametrize("keys", [1, 7, 300])
def test_lists_are_made_short_while_one_element_gives_many(keys: int) -> None:
    run(beam.FlatMap(spread, keys), 50_000, keys, "auto")
    most = max(PreCombineOp.MIN_VALUES, keys * PreCombineOp.VALUES_PER_KEY)
    assert 1 < max(LONGEST) <= most // keys + 2


def test_lists_are_made_short_between_blocks() -> None:
    step = beam.FlatMap(lambda count: range(count))
    run(step | "spread" >> beam.Reshuffle() | "pair" >> beam.Map(lambda x: (x % 3, x)), 60_000, 3, "auto")
    assert 1 < max(LONGEST) < 30_000


@pytest.mark.parametrize("way", ["auto", "general"])
def test_more_keys_than_a_table_may_have(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreCombineOp, "MAX_KEYS", 10)
    run(beam.FlatMap(spread, 1_000), 5_000, 1_000, way)
