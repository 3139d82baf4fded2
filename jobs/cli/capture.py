"""Build a job's pipeline without running it, and read it as the graph of its author's steps.

Imports Beam: import this module when there is a pipeline to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import apache_beam as beam
from apache_beam.pipeline import PipelineVisitor
from apache_beam.transforms import window

from sage.errors import ConfigError
from sage.jobs.cli.stepgraph import Edge, Node, StepGraph
from sage.jobs.cli.target import Target
from sage.runners.engine.core.spec import Plan, Step
from sage.runners.plan import plan_pipeline

__all__ = ["capture", "plan_of", "stage_graph", "step_graph"]


class _Captured(BaseException):
    """Carries the pipeline out of the job's code; no Exception, so that the code does not handle it."""

    def __init__(self, pipeline: beam.Pipeline) -> None:
        super().__init__()
        self.pipeline = pipeline


def capture(target: Target, argv: Sequence[str]) -> beam.Pipeline:
    """The first pipeline that the job's code would run.

    ``Pipeline.run`` itself is held back, not only our runner: a script that names another runner must not start
    a job on it because somebody asked for a drawing.

    Raises:
        ConfigError: the code ran to its end and ran no pipeline.
        Exception: whatever the job's code raises.
    """

    def stop(self: beam.Pipeline, *args: Any, **kwargs: Any) -> NoReturn:
        raise _Captured(self)

    run = beam.Pipeline.run
    beam.Pipeline.run = stop
    try:
        with target.launched(argv):
            pass
    except _Captured as captured:
        return captured.pipeline
    finally:
        beam.Pipeline.run = run
    raise ConfigError("the job's code ran to its end without running a pipeline: there is nothing to draw")


def step_graph(pipeline: beam.Pipeline, *, depth: int = 1) -> StepGraph:
    """The graph of a pipeline that has been built.

    Args:
        pipeline: any Beam pipeline.
        depth: how many levels of composites stay open; 1 shows what was applied to the pipeline itself.
    """
    collector = _Leaves()
    pipeline.visit(collector)
    units: dict[str, Any] = {}
    windowings: dict[str, str] = {}
    producers: dict[Any, tuple[str, str]] = {}
    edges: dict[Edge, None] = {}
    for leaf in collector.leaves:
        unit = _unit(leaf, depth)
        units.setdefault(unit.full_label, unit)
        # What sets windows for its own purposes, a sink for one, is not known by them.
        if isinstance(leaf.transform, beam.WindowInto) and set(leaf.outputs.values()) & set(unit.outputs.values()):
            windowings[unit.full_label] = _windowing_text(leaf.transform.windowing.windowfn)
        for tag, value in leaf.outputs.items():
            producers[value] = (unit.full_label, str(tag or ""))
    outputs_of = {name: {v for v, (owner, _) in producers.items() if owner == name} for name in units}
    for leaf in collector.leaves:
        name = _unit(leaf, depth).full_label
        for value, side in _inputs(leaf):
            if value not in producers or producers[value][0] == name:
                continue
            source, tag = producers[value]
            shown = tag if _has_several_outputs(units[source], outputs_of[source]) else ""
            edges[Edge(source, name, "" if shown == "None" else shown, side)] = None
    nodes = [Node(name, _kind(unit.transform), windowings.get(name, "")) for name, unit in units.items()]
    return StepGraph(nodes, list(edges))


def _kind(transform: Any) -> str:
    # `with_outputs` wraps a ParDo in a private class; to its author it is still a ParDo.
    name = type(transform).__name__
    return "ParDo" if name == "_MultiParDo" else "" if name.startswith("_") else name


class _Leaves(PipelineVisitor):
    """Collects the transforms that have no parts, in the order of application."""

    def __init__(self) -> None:
        self.leaves: list[Any] = []

    def visit_transform(self, transform_node: Any) -> None:
        self.leaves.append(transform_node)


def _unit(leaf: Any, depth: int) -> Any:
    """The enclosing transform that is drawn: the one ``depth`` levels below the pipeline's root."""
    chain = [leaf]
    while chain[-1].parent is not None and chain[-1].parent.full_label:
        chain.append(chain[-1].parent)
    return chain[max(0, len(chain) - depth)]


def _inputs(leaf: Any) -> Iterator[tuple[Any, bool]]:
    for value in leaf.inputs:
        if not isinstance(value, beam.pvalue.PBegin):
            yield value, False
    for side in leaf.side_inputs:
        yield side.pvalue, True


def _has_several_outputs(unit: Any, produced: set[Any]) -> bool:
    return len(set(unit.outputs.values()) & produced) > 1 or len(unit.outputs) > 1


def _windowing_text(fn: Any) -> str:
    if isinstance(fn, window.GlobalWindows):
        return "global window"
    if isinstance(fn, window.FixedWindows):
        return f"fixed windows of {_seconds(fn.size)}"
    if isinstance(fn, window.SlidingWindows):
        return f"sliding windows of {_seconds(fn.size)} every {_seconds(fn.period)}"
    if isinstance(fn, window.Sessions):
        return f"sessions with a gap of {_seconds(fn.gap_size)}"
    return type(fn).__name__


def _seconds(duration: Any) -> str:
    seconds = float(duration)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


_ARRIVAL = {"key": "shuffled by key", "spread": "spread over workers", "one": "at one worker"}


def plan_of(pipeline: beam.Pipeline) -> Plan:
    """The plan that SAGE's runners make of a pipeline.

    Raises:
        InvalidPipeline: the pipeline cannot be planned.
        UnsupportedFeature: the runner refuses it.
    """
    return plan_pipeline(pipeline.to_runner_api())


def stage_graph(pipeline: beam.Pipeline) -> StepGraph:
    """The stages that SAGE's runners make of a pipeline: steps that run fused are one node.

    Raises:
        InvalidPipeline: the pipeline cannot be planned.
        UnsupportedFeature: the runner refuses it.
    """
    plan = plan_of(pipeline)
    names = {stage.index: f"stage {n}" for n, stage in enumerate(plan.stages, start=1)}
    makers = {
        collection: names[stage.index]
        for stage in plan.stages
        for step in stage.steps
        for collection in step.outputs.values()
    }
    graph = StepGraph()
    edges: dict[Edge, None] = {}
    for stage in plan.stages:
        name = names[stage.index]
        steps = tuple(step.name for step in stage.steps)
        graph.nodes.append(Node(name, type(stage.root).__name__, _ARRIVAL.get(stage.partition, ""), steps))
        for step in stage.steps:
            for collection, side in _reads(step):
                if makers[collection] != name:
                    edges[Edge(makers[collection], name, side=side)] = None
    graph.edges.extend(edges)
    return graph


def _reads(step: Step) -> Iterator[tuple[Any, bool]]:
    for collection in step.inputs:
        yield collection, False
    for side in getattr(step, "side_inputs", ()):
        yield side.collection, True
