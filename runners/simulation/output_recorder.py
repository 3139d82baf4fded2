"""A user's job as the simulator takes it: its sinks write to the simulated broker, and nothing reaches the world."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from apache_beam import coders
from apache_beam.internal import pickler
from apache_beam.pipeline import Pipeline
from apache_beam.transforms import environments

from sage.errors import InvalidPipeline
from sage.runners.engine.core import spec
from sage.runners.engine.operators.two_phase_sink import is_transactional
from sage.runners.features import refuse
from sage.runners.plan import plan_pipeline
from sage.runners.plan.uses import uses_of
from sage.runners.simulation.simulator import Scenario
from sage.runners.simulation.world import Recorder


def scenario_of(pipeline: Pipeline, **options: Any) -> Scenario:
    """A pipeline with what it would write as its output.

    Watched is what comes to its sinks with transactions; where it has none, what comes to its last steps. These steps
    themselves are not run.

    Args:
        pipeline: any Beam pipeline that can be read more than once, and ends.
        options: of `Scenario`.

    Raises:
        UnsupportedFeature: the engine cannot run it.
        InvalidPipeline: it puts nothing out.
    """
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    refuse(uses_of(proto), "local")
    if not watched_steps(plan_pipeline(proto, 1)):
        raise InvalidPipeline("the pipeline has no step whose output could be watched")
    return Scenario(lambda workers: watched(plan_pipeline(proto, workers)), **options)


def watched_steps(plan: spec.Plan) -> list[spec.Step]:
    """The steps whose input, or else whose output, is what a job puts out."""
    steps = [step for stage in plan.stages for step in stage.steps]
    sinks = [step for step in steps if is_transactional(step)]
    read = plan.read | {c for step in steps for c in step.inputs}
    return sinks or [step for step in steps if not read & set(step.outputs.values())]


def compared(plan: spec.Plan) -> list[str]:
    """What a plan that `watched` gave records, in words, one for each step."""
    found = {}
    for stage in plan.stages:
        for step in stage.steps:
            if isinstance(step, spec.ParDo) and isinstance(step.dofn.fn, Recorder):
                name = step.dofn.fn.name
                found[name] = f"what goes into '{name}'" if step.name == name else f"what comes out of '{name}'"
    return list(found.values())


def watched(plan: spec.Plan) -> spec.Plan:
    """The plan with recorders in the place of what it would write with, or behind its last steps."""
    chosen = {step.id for step in watched_steps(plan)}
    collections = dict(plan.collections)
    stages = []
    for stage in plan.stages:
        root, fused = stage.root, list[spec.Step]()
        if root.id in chosen and not _writes(root):
            fused += [_behind(root, collection, collections) for collection in root.outputs.values()]
        for step in stage.fused:
            if step.id in chosen and _writes(step):
                fused.append(_in_place_of(step))
            elif step.id in chosen:
                fused += [step, *(_behind(step, collection, collections) for collection in step.outputs.values())]
            else:
                fused.append(step)
        if root.id in chosen and _writes(root):
            root = _in_place_of(root)
        stages.append(replace(stage, root=root, fused=tuple(fused)))
    return spec.Plan(tuple(stages), collections)


def _writes(step: spec.Step) -> bool:
    """Whether a step is one to be left out: what counts is its input."""
    return isinstance(step, spec.ParDo) and not step.stateful and not step.splittable


def _in_place_of(step: spec.Step) -> spec.Step:
    assert isinstance(step, spec.ParDo)
    dofn = spec.DoFnSpec(Recorder(step.name), (), {}, step.dofn.windowing)
    return replace(step, dofn=dofn, side_inputs=(), serialized=b"")


def _behind(
    step: spec.Step, source: spec.CollectionId, collections: dict[spec.CollectionId, spec.Collection]
) -> spec.Step:
    made = spec.CollectionId(f"{source}/watched")
    windowing = collections[source].windowing
    collections[made] = replace(collections[source], id=made, coder=coders.FastPrimitivesCoder())
    dofn = spec.DoFnSpec(Recorder(step.name), (), {}, windowing)
    return spec.ParDo(spec.StepId(f"{source}/watch"), f"{step.name}/output", (source,), {None: made}, dofn)


def difference(expected: Counter[Any], found: Counter[Any]) -> tuple[Counter[Any], Counter[Any]]:
    """What was lost, and what is there that should not be, as it is when something was put out twice."""
    return expected - found, found - expected
