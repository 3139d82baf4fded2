"""Which way each step of a plan would run, and why: the plan's tasks are made, and nothing of them runs."""

from __future__ import annotations

from dataclasses import dataclass

from sage.errors import Location
from sage.runners.engine.core import spec
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.runtime.task import Task

ENGINE = "engine"
"""The way of a step that is no ParDo and not compiled into a chain of them: an operator of the engine's own."""


@dataclass(frozen=True)
class ExplainedStep:
    """How one step of a plan runs.

    Attributes:
        name: the step's full name.
        kind: what the engine does there: ``pardo``, ``group by key`` and so on.
        stage: the number of its stage, from 1.
        path: ``compiled``, ``bound``, ``general`` or ``engine``.
        reason: why it runs the general way; empty for the others.
        location: the line that applied it, where it is known.
    """

    name: str
    kind: str
    stage: int
    path: str
    reason: str
    location: Location | None


def explain_plan(plan: spec.Plan, options: JobOptions) -> list[ExplainedStep]:
    """How each step of a plan runs, in the order of the plan."""
    job = JobContext(VirtualClock(), options)
    for stage in plan.stages:
        Task(stage, plan, job, lambda collection, block: None)
    return [_explained(step, number, job) for number, stage in enumerate(plan.stages, 1) for step in stage.steps]


def _explained(step: spec.Step, stage: int, job: JobContext) -> ExplainedStep:
    in_chains = isinstance(step, spec.ParDo | spec.AssignWindows | spec.PreCombine)
    path = job.paths.get(step.name, ENGINE) if in_chains else ENGINE
    reason = job.reasons.get(step.name, "") if path == "general" else ""
    location = job.options.locations.get(step.name)
    return ExplainedStep(step.name, step.kind, stage, path, reason, location)
