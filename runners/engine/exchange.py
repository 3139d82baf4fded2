"""The exchange between workers: who gets which rows of a block.

Keys hash to a fixed number of key groups, and key groups are spread over the workers in ranges, so that a job can
change its number of workers without a key's group changing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sage.errors import InvalidPipeline
from sage.runners.engine import spec
from sage.runners.engine.blocks import Block
from sage.runners.engine.keys import KeyIds, key_coder

KEY_GROUPS = 128
_CACHE_KEYS = 100_000

Message = Block | int
"""What flows over a channel: a block, or a watermark in microseconds."""


class Exchange(Protocol):
    """How a worker reaches the others. Messages from one worker to another arrive in the order they were sent."""

    me: int
    workers: int

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        """Sends to a stage of another worker; may wait, and lets this worker take messages while it does."""


@dataclass(frozen=True)
class Route:
    """One reader of a collection: a port of a stage.

    ``mode`` is ``"local"``, ``"key"``, ``"spread"`` or ``"all"``.
    """

    stage: int
    port: int
    mode: str
    collection: spec.Collection


def routes_of(plan: spec.Plan) -> dict[spec.CollectionId, list[Route]]:
    """Who reads each collection, and how its blocks get there."""
    found: dict[spec.CollectionId, list[Route]] = {}
    for stage in plan.stages:
        sides = stage.root.side_inputs if isinstance(stage.root, spec.ParDo) else ()
        for port, collection in enumerate(stage.root.inputs):
            mode = stage.partition if stage.partition in ("key", "spread") else "local"
            route = Route(stage.index, port, mode, plan.collections[collection])
            found.setdefault(collection, []).append(route)
        for offset, side in enumerate(sides):
            port = len(stage.root.inputs) + offset
            route = Route(stage.index, port, "all", plan.collections[side.collection])
            found.setdefault(side.collection, []).append(route)
    return found


def worker_of(group: int, workers: int) -> int:
    """The worker that has a key group: groups are spread in ranges."""
    return group * workers // KEY_GROUPS


class Partitioner:
    """Cuts the blocks of one route into one part for each worker."""

    def __init__(self, route: Route, workers: int) -> None:
        self._route = route
        self._workers = workers
        self._next = 0
        self._ids = KeyIds(key_coder(route.collection.coder))
        self._known: dict[Any, int] = {}

    def parts(self, block: Block) -> Iterator[tuple[int, Block]]:
        """Each worker that gets rows of the block, with its rows."""
        mode, workers = self._route.mode, self._workers
        if mode == "all":
            yield from ((worker, block) for worker in range(workers))
            return
        if mode == "spread":
            rows = self._spread(len(block))
        elif mode == "key":
            rows = self._by_key(block)
        else:
            raise InvalidPipeline(f"blocks of {self._route.collection.name} stay at their worker")
        for worker, indices in enumerate(rows):
            if indices:
                yield worker, block if len(indices) == len(block) else block.pick(indices)

    def _spread(self, rows: int) -> list[list[int]]:
        first, self._next = self._next, (self._next + rows) % self._workers
        return [list(range((worker - first) % self._workers, rows, self._workers)) for worker in range(self._workers)]

    def _by_key(self, block: Block) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in range(self._workers)]
        known, of = self._known, self._ids.of
        for index, pair in enumerate(block.values):
            identity = of(pair[0])
            worker = known.get(identity)
            if worker is None:
                if len(known) > _CACHE_KEYS:
                    known.clear()
                worker = known[identity] = worker_of(self._ids.group(pair[0], KEY_GROUPS), self._workers)
            rows[worker].append(index)
        return rows
