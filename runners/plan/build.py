"""From a pipeline proto to a plan: the ordered list of passes."""

from __future__ import annotations

from collections.abc import Callable

from apache_beam.portability.api import beam_runner_api_pb2

from sage.runners.engine.spec import Plan
from sage.runners.plan.passes import drop_unread_flattens, expand_splittable, fuse, lift_combines
from sage.runners.plan.read import Graph, read_graph

PASSES: tuple[Callable[[Graph], Graph], ...] = (drop_unread_flattens, lift_combines, expand_splittable)


def plan_pipeline(proto: beam_runner_api_pb2.Pipeline) -> Plan:
    """The physical stages of a pipeline.

    Raises:
        UnknownTransform: a transform has a URN that SAGE does not run.
        InvalidPipeline: a part of the proto cannot be decoded in this process.
    """
    graph = read_graph(proto)
    for run in PASSES:
        graph = run(graph)
    return Plan(fuse(graph), graph.collections)
