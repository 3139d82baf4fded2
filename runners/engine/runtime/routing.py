"""Where what leaves a stage goes: the stages that read it, and the workers that have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.spec import CollectionId, Plan
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import RAISED, raise_step_error
from sage.runners.engine.runtime.exchange import Partitioner, Route, routes_of


class Routing:
    """The routes of a plan at one worker.

    State: that of the `Partitioner` of each route on which rows change workers.

    Args:
        plan: the job.
        me: which worker this is.
        workers: how many there are.
        context: what names a step when it fails.

    Attributes:
        channels: how many workers send to each stage and port (count).
    """

    def __init__(self, plan: Plan, me: int, workers: int, context: TaskContext) -> None:
        self._plan = plan
        self._me = me
        self._workers = workers
        self._context = context
        self._routes = routes_of(plan)
        self._partitioners: dict[tuple[int, int], Partitioner] = {}
        self.channels: dict[tuple[int, int], int] = {}
        for route in (r for routes in self._routes.values() for r in routes):
            crosses = route.mode != "local" and workers > 1
            self.channels[route.stage, route.port] = workers if crosses else 1
            if crosses:
                self._partitioners[route.stage, route.port] = Partitioner(route, workers)

    def channels_of(self, stages: Iterable[int]) -> dict[int, int]:
        """How many channels each of these stages has, over all its ports (count)."""
        counts = dict.fromkeys(stages, 0)
        for (stage, _), senders in self.channels.items():
            if stage in counts:
                counts[stage] += senders
        return counts

    def parts(self, collection: CollectionId, block: Block) -> Iterator[tuple[Route, int, Block]]:
        """A block in one part for each reader and worker.

        Raises:
            StepError: there are keys that cannot be told apart; it names the step that they are for.
        """
        for route in self._routes.get(collection, ()):
            partitioner = self._partitioners.get((route.stage, route.port))
            if partitioner is None:
                yield route, self._me, block
                continue
            try:
                parts = list(partitioner.parts(block))
            except RAISED as error:
                raise_step_error(self._plan.stages[route.stage].root.name, error, self._context, keyed=True)
            yield from ((route, worker, part) for worker, part in parts)

    def all(self, collection: CollectionId) -> Iterator[tuple[Route, int]]:
        """Every reader and worker: what a watermark and a barrier go to."""
        for route in self._routes[collection]:
            crosses = (route.stage, route.port) in self._partitioners
            yield from ((route, worker) for worker in (range(self._workers) if crosses else (self._me,)))
