"""Which of many things is due next."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

SPARE = 64


class DeadlineQueue:
    """Times of things, the earliest first; to ask costs nothing, to set a time the logarithm of how many there are.

    State: the time of each thing in ``times``, and a heap of settings, in which one that no longer holds is skipped.
    """

    def __init__(self) -> None:
        self.times: dict[Any, int] = {}
        self._heap: list[tuple[int, int, Any]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def pending(self) -> int:
        """How many settings the heap holds, of which some may not hold any more."""
        return len(self._heap)

    def set(self, item: Any, time: int | None) -> None:
        """Gives a thing a time (microseconds) in place of the one it had; None takes it out."""
        known = self.times.get(item)
        if time == known:
            return
        if time is None:
            del self.times[item]
            return
        self.times[item] = time
        if len(self._heap) > 2 * len(self.times) + SPARE:
            self._heap = [(at, next(self._numbers), each) for each, at in self.times.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (time, next(self._numbers), item))

    def earliest(self) -> int | None:
        """The earliest time (microseconds), if there is any."""
        heap, times = self._heap, self.times
        while heap and times.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, limit: int) -> list[Any]:
        """Takes out what is due at ``limit`` (microseconds) or before, in order of time."""
        taken = []
        while (time := self.earliest()) is not None and time <= limit:
            item = heapq.heappop(self._heap)[2]
            del self.times[item]
            taken.append(item)
        return taken

    def clear(self) -> None:
        """Forgets all."""
        self.times.clear()
        self._heap.clear()
