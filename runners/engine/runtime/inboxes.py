"""What waits for the stages of a worker, and which of them is next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from sage.runners.engine.checkpoint.snapshot import Barrier
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.runtime.exchange import Message, weight

INBOX_ROWS = 1 << 16

Entry = tuple[int, Message, int, int]
"""A message with the port it is for, the worker it comes from, and what that counts it for (bytes)."""


class Inboxes:
    """The messages of each stage, in the order in which they came.

    State: the messages; of each stage the weight of its blocks (`weight`); the stages that have their turn to come,
    and in ``barriers`` those of them that have a barrier to come to.

    Args:
        stages: the indices of the stages.
    """

    def __init__(self, stages: Iterable[int]) -> None:
        self._entries: dict[int, deque[Entry]] = {stage: deque() for stage in stages}
        self._weights = dict.fromkeys(self._entries, 0)
        self._ready: list[int] = []
        self._queued: set[int] = set()
        self.barriers: set[int] = set()

    def __bool__(self) -> bool:
        return self.furthest >= 0

    @property
    def furthest(self) -> int:
        """The stage furthest downstream that has its turn to come; -1 if none has."""
        while self._ready and not self._entries[-self._ready[0]]:  # it was emptied out of turn
            self._queued.discard(-heapq.heappop(self._ready))
        return -self._ready[0] if self._ready else -1

    def put(self, stage: int, entry: Entry) -> None:
        """A message came."""
        self._entries[stage].append(entry)
        self._count(stage, entry[1], 1)
        self.queue(stage)

    def put_back(self, stage: int, entry: Entry) -> None:
        """What is left of the message that was taken last: it is the next."""
        self._entries[stage].appendleft(entry)
        self._count(stage, entry[1], 1)

    def take(self, stage: int) -> Entry | None:
        """The next message of a stage, if it has one."""
        entries = self._entries[stage]
        if not entries:
            return None
        entry = entries.popleft()
        self._count(stage, entry[1], -1)
        return entry

    def _count(self, stage: int, message: Message, times: int) -> None:
        if isinstance(message, Block):
            self._weights[stage] += times * weight(message)
        elif isinstance(message, Barrier):
            (self.barriers.add if times > 0 else self.barriers.discard)(stage)

    def holds(self, stage: int) -> bool:
        """Whether anything waits for a stage."""
        return bool(self._entries[stage])

    def full(self, stage: int) -> bool:
        """Whether more waits for a stage than should."""
        return self._weights[stage] > INBOX_ROWS

    def queue(self, stage: int) -> None:
        """The stage is to have a turn, if anything waits for it."""
        if self._entries[stage] and stage not in self._queued:
            self._queued.add(stage)
            heapq.heappush(self._ready, -stage)

    def next(self, beyond: int) -> int | None:
        """The stage whose turn it is: the furthest downstream, if it is further than the stage ``beyond``.

        While no stage is at work, one that has a barrier to come to goes first, the furthest upstream of them: what
        comes from other workers might keep the stages behind it busy for good, and the checkpoint with them.
        """
        if beyond < 0 and self.barriers:
            return min(self.barriers)
        if self.furthest <= beyond:
            return None
        stage = -heapq.heappop(self._ready)
        self._queued.discard(stage)
        return stage
