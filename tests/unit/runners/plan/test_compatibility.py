"""What a pipeline gets that asks for an earlier version of Beam, or was read back by one."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton
from apache_beam.testing.util import assert_that, equal_to

from sage.runners.engine.core import spec
from sage.runners.local import LocalRunner
from sage.runners.plan import plan_pipeline
from sage.runners.plan.compatibility import as_of


def _reshuffled() -> beam.Pipeline:
    pipeline = beam.Pipeline()
    pipeline | beam.Impulse() | beam.Reshuffle()
    return pipeline


@pytest.mark.parametrize(("version", "ours"), [(None, True), ("2.65.0", True), ("2.100.0", True), ("2.64.0", False)])
def test_reshuffle_is_ours_unless_its_old_self_is_asked_for(version: str | None, ours: bool) -> None:
    plan = plan_pipeline(as_of(_reshuffled().to_runner_api(), version))
    roots = {type(stage.root) for stage in plan.stages}
    assert (spec.Redistribute in roots) is ours
    assert (spec.GroupByKey in roots) is not ours


def _most_below(values: Iterable[int], limit: int = 0) -> int:
    return max((value for value in values if value < limit), default=0)


@pytest.mark.parametrize("is_read_back", [False, True])
def test_a_combine_with_a_side_input_knows_which_of_its_inputs_is_keyed(is_read_back: bool) -> None:
    pipeline = beam.Pipeline(LocalRunner(), PipelineOptions())
    four = pipeline | "four" >> beam.Create([4])
    pairs = pipeline | "pairs" >> beam.Create([("a", 1), ("a", 3), ("b", 9)])
    assert_that(pairs | beam.CombinePerKey(_most_below, AsSingleton(four)), equal_to([("a", 3), ("b", 0)]))
    if is_read_back:
        proto = pipeline.to_runner_api(use_fake_coders=True)
        pipeline = beam.Pipeline.from_runner_api(proto, LocalRunner(), PipelineOptions())
    pipeline.run()
