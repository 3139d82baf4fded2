from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest

from sage.runners.engine.core.spec import Plan
from sage.runners.flink.levels import depth, inputs_of, levels_of
from sage.runners.local import LocalRunner
from sage.runners.plan import plan_pipeline


def plan_of(build: Callable[[beam.Pipeline], Any]) -> Plan:
    pipeline = beam.Pipeline(runner=LocalRunner())
    build(pipeline)
    return plan_pipeline(pipeline.to_runner_api(), 2)


def diamond(p: beam.Pipeline) -> Any:
    """Two branches of different length meet in a flatten, which is local, and in a side input, which is not."""
    pairs = p | beam.Impulse() | beam.Map(lambda _: ("a", 1))
    grouped = pairs | beam.GroupByKey() | beam.MapTuple(lambda key, values: (key, sum(values)))
    both = (pairs, grouped) | beam.Flatten()
    total = both | beam.Values()
    return pairs | "sided" >> beam.Map(lambda pair, others: (pair, list(others)), beam.pvalue.AsIter(total))


@pytest.mark.parametrize(
    ("build", "operators"),
    [
        (lambda p: p | beam.Impulse() | beam.Map(len), 1),
        (lambda p: p | beam.Impulse() | beam.Map(lambda _: ("a", 1)) | beam.GroupByKey(), 2),
        (lambda p: p | beam.Impulse() | beam.Map(lambda _: ("a", 1)) | beam.CombinePerKey(sum), 2),
        (lambda p: p | beam.Impulse() | beam.Reshuffle() | beam.combiners.Count.PerElement(), 3),
        (diamond, 3),
    ],
)
def test_each_exchange_is_between_two_operators(build: Callable[[beam.Pipeline], Any], operators: int) -> None:
    assert depth(plan_of(build)) == operators


def test_no_stage_reads_from_a_later_operator_nor_over_an_exchange_within_one() -> None:
    plan = plan_of(diamond)
    levels = levels_of(plan)
    for level in range(depth(plan)):
        for made_by, route in inputs_of(plan, levels, level):
            assert levels[made_by] < levels[route.stage] == level
    sided = next(stage for stage in plan.stages if "sided" in stage.name)
    # The side input waits for the flatten, which is with the longer of its branches.
    assert levels[sided.index] == 2
