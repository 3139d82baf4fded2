"""The exchange between workers: who gets which rows of a block.

Keys hash to a fixed number of key groups, and key groups are spread over the workers in ranges, so that a job can
change its number of workers without a key's group changing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sage.errors import InvalidPipeline
from sage.runners.engine.checkpoint.snapshot import Barrier
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.key_groups import KEY_GROUPS, worker_of
from sage.runners.engine.core.keys import KeyIds, key_coder
from sage.runners.engine.core.sizes import approximate_size

GATHERED_ROWS = 1000
_CACHE_KEYS = 100_000

Message = Block | int | Barrier
"""What flows over a channel: a block, a watermark in microseconds, or the barrier of a checkpoint."""


class Exchange(Protocol):
    """How a worker reaches the others. Messages from one worker to another arrive in the order they were sent."""

    me: int
    workers: int

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        """Sends to a stage of another worker; may wait, and lets this worker take messages while it does."""

    def receive_pending(self) -> None:
        """Takes up messages that have come; called where much time passes between a worker's own looks for them."""

    def consumed(self, sender: int, stage: int, size: int) -> None:
        """A stage here took up a block that ``sender`` sent; ``size`` is what `Dataflow.deliver` was told of it."""


@dataclass
class NoExchange:
    """The exchange of a worker that has no others."""

    me: int = 0
    workers: int = 1

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        raise AssertionError("there is no other worker")

    def receive_pending(self) -> None:
        pass

    def consumed(self, sender: int, stage: int, size: int) -> None:
        raise AssertionError("there is no other worker")


@dataclass(frozen=True)
class Route:
    """One reader of a collection: a port of a stage.

    ``mode`` is ``"local"``, ``"key"``, ``"spread"``, ``"gather"`` or ``"all"``.
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
            mode = stage.partition if stage.partition in ("key", "spread", "gather") else "local"
            route = Route(stage.index, port, mode, plan.collections[collection])
            found.setdefault(collection, []).append(route)
        for offset, side in enumerate(sides):
            port = len(stage.root.inputs) + offset
            route = Route(stage.index, port, "all", plan.collections[side.collection])
            found.setdefault(side.collection, []).append(route)
    return found


def weight(block: Block) -> int:
    """How much a block is to those who queue or share it: its rows, each for every kilobyte it has."""
    return len(block) * max(1, approximate_size(block.values[-1]) >> 10) if len(block) else 0


class Partitioner:
    """Cuts the blocks of one route into one part for each worker.

    State: for each type of key that stands for itself, the workers of the keys that came; of what is gathered, how much
    there was.
    """

    def __init__(self, route: Route, workers: int) -> None:
        self._route = route
        self._workers = workers
        self._next = 0
        self._gathered = 0
        self._ids = KeyIds(key_coder(route.collection.coder))
        self._worker = [worker_of(group, workers) for group in range(KEY_GROUPS)]
        self._known: dict[type, dict[Any, int]] = {cls: {} for cls in self._ids.direct}

    def parts(self, block: Block) -> Iterator[tuple[int, Block]]:
        """Each worker that gets rows of the block, with its rows."""
        mode, workers = self._route.mode, self._workers
        if mode == "all":
            yield from ((worker, block) for worker in range(workers))
        elif mode == "spread":
            yield from self._spread(block)
        elif mode == "gather":
            yield from self._gather(block)
        elif mode == "key":
            yield from self._by_key(block)
        else:
            raise InvalidPipeline(f"blocks of {self._route.collection.name} stay at their worker")

    def _spread(self, block: Block) -> Iterator[tuple[int, Block]]:
        """One run of rows for each worker: neighbours stay together, as they do in what users see of other runners."""
        workers, first = self._workers, self._next
        share, over = divmod(len(block), workers)
        self._next = (first + over) % workers
        start = 0
        for number in range(workers):
            end = start + share + (number < over)
            if end > start:
                yield (first + number) % workers, block.pick(slice(start, end))
            start = end

    def _gather(self, block: Block) -> Iterator[tuple[int, Block]]:
        """All to the worker where sources run, as long as that is little."""
        self._gathered += weight(block)
        if self._gathered > GATHERED_ROWS:
            yield from self._spread(block)
        else:
            yield 0, block

    def _by_key(self, block: Block) -> Iterator[tuple[int, Block]]:
        targets = self._targets([pair[0] for pair in block.values])
        used = set(targets)
        if len(used) == 1:
            yield used.pop(), block
            return
        rows: list[list[Any]] = [[] for _ in range(self._workers)]
        take = [row.append for row in rows]
        if block.uniform:
            for target, value in zip(targets, block.values, strict=True):
                take[target](value)
            for worker in used:
                yield worker, Block(rows[worker], block.timestamps, block.windows, block.panes)
            return
        for index, target in enumerate(targets):
            take[target](index)
        for worker in used:
            yield worker, block.pick(rows[worker])

    def _targets(self, keys: list[Any]) -> list[int]:
        """The worker of each key."""
        classes = set(map(type, keys))
        known = self._known.get(classes.pop()) if len(classes) == 1 else None
        if known is None:
            return [self._worker_of(key) for key in keys]
        found = list(map(known.get, keys))
        if None in found:
            if len(known) > _CACHE_KEYS:
                known.clear()
            new = [key for key, worker in zip(keys, found, strict=True) if worker is None]
            for key, group in self._ids.groups(new, KEY_GROUPS):
                known[key] = self._worker[group]
            found = [known[key] if worker is None else worker for key, worker in zip(keys, found, strict=True)]
        return found  # type: ignore[return-value]

    def _worker_of(self, key: Any) -> int:
        return self._worker[self._ids.group(key, KEY_GROUPS)]
