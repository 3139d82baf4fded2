"""What a pipeline gets that asks for an earlier version of Beam."""

from __future__ import annotations

import apache_beam as beam
import pytest

from sage.runners.engine import spec
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
