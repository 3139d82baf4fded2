"""Progress of a running job, read from the counters that its tasks keep anyway."""

from __future__ import annotations

from collections.abc import Sequence

from sage.handle import StepProgress
from sage.runners.engine.blocks import MAX_MICROS
from sage.runners.engine.dataflow import Dataflow


def progress_of(flow: Dataflow, state: str) -> Sequence[StepProgress]:
    """One entry for each step, in the order of the plan."""
    steps = []
    for task in flow.tasks:
        done = task.input_watermark >= MAX_MICROS or state == "DONE"
        for step in task.stage.steps:
            made = sum(task.outputs[c].count for c in step.outputs.values())
            came = task.received if step is task.stage.root else task.outputs[step.inputs[0]].count
            steps.append(
                StepProgress(
                    step.name, came, made, 0.0, "done" if done else "running" if came or made else "waiting"
                )
            )
    return steps
