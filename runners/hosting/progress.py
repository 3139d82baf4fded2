"""Progress of a running job, read from the counters that its tasks keep anyway."""

from __future__ import annotations

from collections.abc import Sequence

from sage.handle import StepProgress
from sage.runners.engine.blocks import MAX_MICROS
from sage.runners.engine.dataflow import Dataflow


def progress_of(flow: Dataflow, state: str) -> Sequence[StepProgress]:
    """One entry for each step, in the order of the plan.

    A step that runs in two halves, on both sides of an exchange, is one entry: what the first half takes in, what
    the second puts out.
    """
    steps: dict[str, StepProgress] = {}
    for task in flow.tasks.values():
        done = task.input_watermark >= MAX_MICROS or state == "DONE"
        for step in task.stage.steps:
            made = sum(task.outputs[c].count for c in step.outputs.values())
            came = task.received if step is task.stage.root else task.outputs[step.inputs[0]].count
            first = steps.get(step.name)
            steps[step.name] = StepProgress(
                step.name,
                came if first is None else first.elements_in,
                made,
                task.busy_micros / 1e3 + (0 if first is None else first.busy_ms),
                "done" if done else "running" if came or made else "waiting",
            )
    return list(steps.values())


def merge_progress(parts: Sequence[Sequence[StepProgress]]) -> Sequence[StepProgress]:
    """The progress of several workers as one; a step is done when it is done everywhere."""
    known = [part for part in parts if part]
    if not known:
        return []
    merged = []
    for same in zip(*known, strict=True):
        states = {step.state for step in same}
        running = "running" if states != {"waiting"} else "waiting"
        merged.append(
            StepProgress(
                same[0].name,
                sum(step.elements_in for step in same),
                sum(step.elements_out for step in same),
                sum(step.busy_ms for step in same),
                "done" if states == {"done"} and len(known) == len(parts) else running,
            )
        )
    return merged
