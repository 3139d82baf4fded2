"""From a pipeline proto to a plan: the ordered list of passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2

from sage.runners.engine.core.spec import Plan
from sage.runners.plan.gathering import gather_small_creates
from sage.runners.plan.passes import drop_redistributes, drop_single_flattens, expand_splittable, fuse, lift_combines
from sage.runners.plan.read import Graph, read_graph

PASSES: tuple[Callable[[Graph], Graph], ...] = (drop_single_flattens, lift_combines, expand_splittable)
ALONE = (drop_redistributes, *PASSES)
"""The passes for a job with one worker."""
SEVERAL = (*PASSES, gather_small_creates)
"""The passes for one that may have more."""


def plan_pipeline(
    proto: beam_runner_api_pb2.Pipeline, workers: int | None = None, created: Mapping[str, Any] | None = None
) -> Plan:
    """The physical stages of a pipeline.

    Args:
        proto: the pipeline.
        workers: how many workers will run it; None if that is not known.
        created: what `created_in` gives of the pipeline that the proto is of, if that is in this process.

    Raises:
        UnknownTransform: a transform has a URN that SAGE does not run.
        InvalidPipeline: a part of the proto cannot be decoded in this process.
    """
    graph = read_graph(proto, created)
    for run in ALONE if workers == 1 else SEVERAL:
        graph = run(graph)
    return Plan(fuse(graph), graph.collections)
