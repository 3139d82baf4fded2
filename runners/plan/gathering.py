"""Small Creates that stay together: what they hold is spread over the workers only where that shares some work.

Beam's ``Create`` ends in a reshuffle, so that the functions behind it run at all workers. A few elements gain nothing
by it where a step that works by the bundle comes first: it batches or combines, and would make more and smaller
batches. Nor do they where no function of the user's comes before the next exchange.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.typehints.typecheck import AbstractDoFnWrapper

from sage.runners.engine.core import spec
from sage.runners.engine.core.spec import CollectionId
from sage.runners.plan.passes import partition_of
from sage.runners.plan.read import Graph

_IN_CREATE = "/MaybeReshuffle/Reshuffle"
_VOCABULARY = frozenset(f"apache_beam.transforms.{name}" for name in ("combiners", "core", "util", "window"))
"""Where Beam's small change is: what windows, keys, batches or logs an element."""
_DEPTH = 6  # of functions in functions


def gather_small_creates(graph: Graph) -> Graph:
    """Marks the reshuffles in Creates that are to spread only what is more than a little."""
    readers = _Readers(graph)

    def marked(step: spec.Step) -> spec.Step:
        if isinstance(step, spec.Redistribute) and step.name.endswith(_IN_CREATE):
            decoded = [made for decode in readers.of(step.output) for made in decode.outputs.values()]
            return replace(step, gathers=all(map(readers.gather, decoded)))
        return step

    return Graph(tuple(marked(step) for step in graph.steps), graph.collections)


class _Readers:
    """Who reads each collection as a main input."""

    def __init__(self, graph: Graph) -> None:
        self._found: dict[CollectionId, list[spec.Step]] = {}
        for step in graph.steps:
            for collection in step.inputs:
                self._found.setdefault(collection, []).append(step)

    def of(self, collection: CollectionId) -> list[spec.Step]:
        """The steps that read it."""
        return self._found.get(collection, [])

    def gather(self, collection: CollectionId) -> bool:
        """Whether the elements of a collection are better kept together, for all that comes before an exchange."""
        return all(self._gathers(step) for step in self.of(collection))

    def _gathers(self, step: spec.Step) -> bool:
        if _exchanges(step):
            return True
        if _by_bundle(step):
            return not self._set_up_behind(step)
        return _is_small_change(step) and all(self.gather(made) for made in step.outputs.values())

    def _set_up_behind(self, step: spec.Step) -> bool:
        """Whether a step behind this one is set up: with a model, a connection. What it does is worth sharing."""
        behind = [reader for made in step.outputs.values() for reader in self.of(made) if not _exchanges(reader)]
        return any(_overrides(reader, "setup") or self._set_up_behind(reader) for reader in behind)


def _exchanges(step: spec.Step) -> bool:
    return partition_of(step) not in (None, "local")


def _by_bundle(step: spec.Step) -> bool:
    return isinstance(step, spec.PreCombine) or _overrides(step, "start_bundle") or _overrides(step, "finish_bundle")


def _overrides(step: spec.Step, method: str) -> bool:
    """Whether a DoFn does something of its own at this point of its life."""
    return isinstance(step, spec.ParDo) and getattr(type(_inner(step)), method) is not getattr(beam.DoFn, method)


def _inner(step: spec.ParDo) -> beam.DoFn:
    """The DoFn of a step, out of Beam's checks around it."""
    fn = step.dofn.fn
    while isinstance(fn, AbstractDoFnWrapper):
        fn = fn.dofn
    return fn


def _is_small_change(step: spec.Step) -> bool:
    """Whether a step does no more than Beam's own vocabulary does to one element."""
    if isinstance(step, spec.AssignWindows | spec.Flatten):
        return True
    if not isinstance(step, spec.ParDo) or step.splittable:
        return False
    return _is_beams([_inner(step), *step.dofn.args, *step.dofn.kwargs.values()], _DEPTH)


def _is_beams(value: Any, depth: int) -> bool:
    """Whether all that can be called in a value is Beam's own: in a container, a DoFn, a function that holds others."""
    parts: Iterable[Any] = ()
    if isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif callable(value) or isinstance(value, beam.DoFn | beam.CombineFn | beam.PTransform):
        if depth == 0 or getattr(value, "__module__", None) not in _VOCABULARY:
            return False
        cells = getattr(value, "__closure__", None) or ()
        parts = [*(cell.cell_contents for cell in cells), *vars(value).values()]
    return all(_is_beams(part, depth - 1) for part in parts)
