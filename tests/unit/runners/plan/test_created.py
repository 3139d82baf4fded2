"""What a plan shares with the pipeline it is made of: what Create holds, and nothing of the user's."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest

from sage.runners.engine.core import spec
from sage.runners.plan import plan_pipeline
from sage.runners.plan.created import created_in


@pytest.fixture
def pipeline() -> beam.Pipeline:
    made = beam.Pipeline()
    made | "values" >> beam.Create([1, 2, 3]) | "user's" >> beam.Map(abs)
    made | beam.Impulse() | "own source" >> beam.FlatMap(lambda _: [4])
    return made


def par_dos(pipeline: beam.Pipeline, **how: Any) -> dict[str, spec.ParDo]:
    plan = plan_pipeline(pipeline.to_runner_api(), 1, **how)
    return {step.name: step for stage in plan.stages for step in stage.steps if isinstance(step, spec.ParDo)}


def test_only_the_elements_of_create_are_shared(pipeline: beam.Pipeline) -> None:
    created = created_in(pipeline)
    (name,) = created
    assert name.startswith("values/FlatMap")
    steps = par_dos(pipeline, created=created)
    assert steps[name].dofn.fn is created[name][0]
    assert list(steps[name].dofn.fn.process(b"")) == list(par_dos(pipeline)[name].dofn.fn.process(b""))


def test_without_the_pipeline_at_hand_all_is_unpickled(pipeline: beam.Pipeline) -> None:
    ((name, (fn, *_)),) = created_in(pipeline).items()
    assert par_dos(pipeline)[name].dofn.fn is not fn
