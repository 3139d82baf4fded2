"""The passes from a graph of steps to stages; each is pure and does one thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from apache_beam import coders

from sage.runners.engine.core import spec
from sage.runners.engine.core.keys import key_coder
from sage.runners.engine.core.spec import CollectionId, StepId
from sage.runners.engine.operators.grouping.group import fires_once
from sage.runners.plan.read import Graph


def lift_combines(graph: Graph) -> Graph:
    """Splits a combine in two around its shuffle where every firing sees a window's values once.

    A trigger that counts elements or fires early must see elements, not accumulators, so only the default
    trigger is lifted.
    """
    steps: list[spec.Step] = []
    collections = dict(graph.collections)
    for step in graph.steps:
        if not isinstance(step, spec.CombinePerKey):
            steps.append(step)
            continue
        source = collections[step.inputs[0]]
        if not fires_once(source.windowing):
            steps.append(step)
            continue
        between = CollectionId(f"{step.id}/accumulators")
        value = step.combine_fn.get_accumulator_coder()
        collections[between] = replace(
            source, id=between, name=f"{step.name}/accumulators",
            coder=coders.TupleCoder((key_coder(source.coder), value)),
        )  # fmt: skip
        pre = spec.PreCombine(
            StepId(f"{step.id}/pre"), step.name, step.inputs, {None: between}, combine_fn=step.twin_fn
        )
        merge = spec.MergeCombine(step.id, step.name, (between,), step.outputs, combine_fn=step.combine_fn)
        steps += [pre, merge]
    return Graph(tuple(steps), collections)


def expand_splittable(graph: Graph) -> Graph:
    """Splits a splittable DoFn in two: restrictions are made and split where the element is, then spread."""
    steps: list[spec.Step] = []
    collections = dict(graph.collections)
    for step in graph.steps:
        if not (isinstance(step, spec.ParDo) and step.splittable):
            steps.append(step)
            continue
        between = CollectionId(f"{step.id}/restrictions")
        collections[between] = replace(
            collections[step.inputs[0]], id=between, name=f"{step.name}/restrictions",
            coder=coders.FastPrimitivesCoder(),
        )  # fmt: skip
        steps.append(
            spec.SplitRestrictions(
                StepId(f"{step.id}/split"), step.name, step.inputs, {None: between}, dofn=step.dofn
            )
        )
        steps.append(replace(step, inputs=(between,)))
    return Graph(tuple(steps), collections)


def drop_single_flattens(graph: Graph) -> Graph:
    """Takes out flattens of one input: their consumers read that input."""
    return _without(graph, lambda step: isinstance(step, spec.Flatten) and len(step.inputs) == 1)


def drop_redistributes(graph: Graph) -> Graph:
    """Takes out the exchanges that only spread elements over workers: for a job that has one worker."""
    return _without(graph, lambda step: isinstance(step, spec.Redistribute))


def _without(graph: Graph, gone: Callable[[spec.Step], bool]) -> Graph:
    """The graph without some steps that hand their one input on as it is."""
    renamed: dict[CollectionId, CollectionId] = {}
    steps: list[spec.Step] = []
    for step in graph.steps:
        step = replace(step, inputs=tuple(renamed.get(c, c) for c in step.inputs))
        if isinstance(step, spec.ParDo) and step.side_inputs:
            sides = tuple(replace(s, collection=renamed.get(s.collection, s.collection)) for s in step.side_inputs)
            step = replace(step, side_inputs=sides)
        if gone(step):
            renamed[step.output] = step.inputs[0]
        else:
            steps.append(step)
    return Graph(tuple(steps), graph.collections)


_PARTITION = {
    spec.GroupByKey: "key",
    spec.CombinePerKey: "key",
    spec.MergeCombine: "key",
    spec.Impulse: "one",
    spec.TestStream: "one",
    spec.PairWithTiming: "local",
    spec.Flatten: "local",
}


def partition_of(step: spec.Step) -> str | None:
    """How a step's input reaches it, if the step begins a stage; None if it runs fused with its producer."""
    if isinstance(step, spec.ParDo):
        if step.stateful:
            return "key"
        if step.splittable:
            return "spread"
        return "local" if step.side_inputs else None
    if isinstance(step, spec.Redistribute):
        return "gather" if step.gathers else "spread"
    return _PARTITION.get(type(step))


def fuse(graph: Graph) -> tuple[spec.Stage, ...]:
    """Stages: each step that needs an exchange, a wait or a barrier begins one; the rest join their producer."""
    root_of: dict[CollectionId, StepId] = {}
    members: dict[StepId, list[spec.Step]] = {}
    roots: dict[StepId, spec.Step] = {}
    for step in graph.steps:
        if partition_of(step) is None:
            home = root_of[step.inputs[0]]
            members[home].append(step)
        else:
            home = step.id
            roots[home], members[home] = step, []
        for collection in step.outputs.values():
            root_of[collection] = home
    # A root comes after all that it reads, and what is fused behind it reads nothing else: the order of the
    # roots is topological.
    return tuple(
        spec.Stage(index, root, tuple(members[id]), partition_of(root) or "local")
        for index, (id, root) in enumerate(roots.items())
    )
