"""Progress of a running job, read from the counters that its tasks keep anyway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sage.handle import StepProgress, StepState
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS
from sage.runners.engine.operators.reading.polled import PolledRoot
from sage.runners.engine.runtime.dataflow import Dataflow


def progress_of(flow: Dataflow, state: str) -> Sequence[StepProgress]:
    """One entry for each step, in the order of the plan."""
    steps = []
    for task in flow.tasks.values():
        done = state == "DONE" or (flow.ended(task) and not task.root.reading)
        for step in task.stage.steps:
            made = sum(task.outputs[c].count for c in step.outputs.values())
            came = task.received if step is task.stage.root else task.outputs[step.inputs[0]].count
            at: StepState = "done" if done else "running" if came or made else "waiting"
            late = task.root.late.count if step is task.stage.root and task.root.late is not None else 0
            steps.append(StepProgress(step.name, came, made, task.busy_micros / 1e3, at, late))
    return join_halves(steps)


@dataclass(frozen=True)
class Pulse:
    """How far a worker has come: the least watermark of its stages (microseconds), how many events wait and how many
    were read (count)."""

    watermark: int = MIN_MICROS
    lag: int | None = None
    read: int = 0


def pulse_of(flow: Dataflow) -> Pulse:
    """How far a worker's stages have come."""
    marks = [task.input_watermark for task in flow.tasks.values() if task.inputs]
    sources = [(task, task.root) for task in flow.tasks.values() if isinstance(task.root, PolledRoot)]
    read = [sum(task.outputs[c].count for c in task.stage.root.outputs.values()) for task, _ in sources]
    lags = [root.lag() for _, root in sources]
    pulses = [Pulse(MAX_MICROS, lag, count) for lag, count in zip(lags, read, strict=True)]
    return merge_pulses([Pulse(min(marks, default=MIN_MICROS)), *pulses])


def merge_pulses(pulses: Iterable[Pulse]) -> Pulse:
    """The pulses of several workers as one."""
    all_of = list(pulses)
    lags = [pulse.lag for pulse in all_of if pulse.lag is not None]
    watermark = min((pulse.watermark for pulse in all_of), default=MIN_MICROS)
    return Pulse(watermark, sum(lags) if lags else None, sum(pulse.read for pulse in all_of))


def join_halves(steps: Iterable[StepProgress]) -> Sequence[StepProgress]:
    """The same steps, but one that runs in two halves, on both sides of an exchange, is one entry: what the first half
    takes in, what the second puts out.
    """
    joined: dict[str, StepProgress] = {}
    for step in steps:
        first = joined.get(step.name)
        if first is not None:
            step = replace(step, elements_in=first.elements_in, busy_ms=first.busy_ms + step.busy_ms)
        joined[step.name] = step
    return list(joined.values())


def merge_progress(parts: Sequence[Sequence[StepProgress]]) -> Sequence[StepProgress]:
    """The progress of several workers as one; a step is done when it is done everywhere."""
    known = [part for part in parts if part]
    if not known:
        return []
    merged = []
    for same in zip(*known, strict=True):
        states = {step.state for step in same}
        running: StepState = "running" if states != {"waiting"} else "waiting"
        merged.append(
            StepProgress(
                same[0].name,
                sum(step.elements_in for step in same),
                sum(step.elements_out for step in same),
                sum(step.busy_ms for step in same),
                "done" if states == {"done"} and len(known) == len(parts) else running,
                sum(step.late_dropped for step in same),
            )
        )
    return merged
