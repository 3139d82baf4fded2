"""The event time that the records of a partition have come to, as far as their timestamps can be believed."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

__all__ = ["EventTime"]

BEFORE_ALL = -(2**62)
_MOST_AHEAD = 1_000


class EventTime:
    """The highest timestamp of the records so far that the clock has come to.

    A record from the future counts when the clock has come to its time: those of a producer whose clock is ahead move
    event time on soon, one that is stamped centuries ahead never does.

    State: that timestamp, and of each chunk of records the lowest timestamp that is ahead of the clock; of these the
    `_MOST_AHEAD` lowest.

    Args:
        lead_ms: how far ahead of the clock a timestamp may be to count at once (ms); None for no limit.
    """

    def __init__(self, lead_ms: int | None) -> None:
        self._lead_ms = lead_ms
        self._newest = BEFORE_ALL
        self._ahead: list[int] = []

    def observe(self, millis: Sequence[int], now_ms: int) -> None:
        """Takes the timestamps of some records (ms since the epoch), of which there is at least one."""
        newest = max(millis)
        if self._lead_ms is not None and newest > (limit := now_ms + self._lead_ms):
            self._wait_for(min(at for at in millis if at > limit))
            newest = max((at for at in millis if at <= limit), default=BEFORE_ALL)
        self._newest = max(self._newest, newest)

    def _wait_for(self, at: int) -> None:
        heapq.heappush(self._ahead, at)
        if len(self._ahead) > _MOST_AHEAD:
            self._ahead = heapq.nsmallest(_MOST_AHEAD // 2, self._ahead)  # which is a heap, being in order

    def newest(self, now_ms: int) -> int:
        """Returns the highest timestamp that counts at a time (ms since the epoch)."""
        limit = now_ms + (self._lead_ms or 0)
        while self._ahead and self._ahead[0] <= limit:
            self._newest = max(self._newest, heapq.heappop(self._ahead))
        return self._newest
