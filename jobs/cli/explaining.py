"""`sage run --explain`: which way each step of a job would run, and why, without running it.

Imports Beam: import this module when there is a job to explain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import apache_beam as beam

from sage.errors import ConfigError, Location
from sage.jobs.cli.runners import job_defaults, resolve_runner
from sage.jobs.cli.target import Target
from sage.runners.driver.base_runner import HostRunner
from sage.runners.driver.explanation import ExplainedStep

__all__ = ["explain_target", "explanation_document", "explanation_text"]


class _Explained(BaseException):
    """Carries the explanation out of the job's code; no Exception, so that the code does not handle it."""

    def __init__(self, steps: list[ExplainedStep]) -> None:
        super().__init__()
        self.steps = steps


def explain_target(
    target: str, job_options: Sequence[str], runner: str, given: Mapping[str, object]
) -> list[ExplainedStep]:
    """How each step of the first pipeline that the job's code would run is run, in the order of the plan.

    Args:
        target: what `sage run` is pointed at.
        job_options: the job's own options.
        runner: the runner that a pipeline gets which names none.
        given: options of SAGE by name.

    Raises:
        ConfigError: the code runs no pipeline, or one on a runner that is not SAGE's.
        Exception: whatever the job's code raises.
    """

    def stop(pipeline: Any, *args: Any, **kwargs: Any) -> NoReturn:
        if not isinstance(pipeline.runner, HostRunner):
            raise ConfigError(
                f"the job's code names {type(pipeline.runner).__name__}, which plans its steps itself: "
                "--explain needs one of SAGE's runners"
            )
        raise _Explained(pipeline.runner.explain_pipeline(pipeline, pipeline.options))

    job = Target.parse(target)
    run = beam.Pipeline.run
    beam.Pipeline.run = stop
    try:
        with job_defaults(resolve_runner(runner), given), job.launched(job_options):
            pass
    except _Explained as explained:
        return explained.steps
    finally:
        beam.Pipeline.run = run
    raise ConfigError("the job's code ran to its end without running a pipeline: there is nothing to explain")


def explanation_text(steps: Sequence[ExplainedStep]) -> str:
    """A table of the steps: the stage, the way, the step and its line; below a general one, why it is not compiled."""
    names = max((len(step.name) for step in steps), default=0)
    lines = [f"{'stage':>5}  {'way':8}  {'step':{names}}  line"]
    for step in steps:
        row = f"{step.stage:>5}  {step.path:8}  {step.name:{names}}  {_line(step.location)}"
        lines.append(row.rstrip())
        if step.reason:
            lines.append(f"{'':>5}  {'':8}  why: {step.reason}")
    counts = {way: sum(step.path == way for step in steps) for way in ("compiled", "bound", "general", "engine")}
    lines.append("")
    lines.append(f"{len(steps)} steps: " + ", ".join(f"{count} {way}" for way, count in counts.items() if count))
    return "\n".join(lines)


def explanation_document(steps: Sequence[ExplainedStep]) -> dict[str, Any]:
    """The same as values that JSON knows."""
    return {
        "steps": [
            {
                "name": step.name,
                "kind": step.kind,
                "stage": step.stage,
                "path": step.path,
                "reason": step.reason or None,
                "line": _line(step.location) or None,
            }
            for step in steps
        ]
    }


def _line(location: Location | None) -> str:
    return "" if location is None else str(location)
