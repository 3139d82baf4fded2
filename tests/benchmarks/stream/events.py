"""The Nexmark events that every way replays from memory, made once in a process and off the clock.

More than `LONGEST` are those again from the first on: for queries that look at no time, so that a run takes seconds.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator

from tests.benchmarks.nexmark.generator import events
from tests.benchmarks.nexmark.model import Config, Event

__all__ = ["BATCH", "CONFIG", "batches", "made", "stamps"]

BATCH = 4_096
"""How many events (count) a source hands over at once."""

LONGEST = 2_000_000
"""How many different events (count) there are."""

CONFIG = Config()


@functools.lru_cache(maxsize=4)
def made(count: int) -> list[Event]:
    """The first ``count`` events."""
    found = list(events(count, CONFIG))
    gc.collect()
    gc.freeze()
    return found


@functools.lru_cache(maxsize=4)
def stamps(count: int) -> list[int]:
    """The event time (microseconds) of each of the first ``count`` events."""
    return [event.date_time * 1_000 for event in made(count)]


def batches(count: int) -> Iterator[list[Event]]:
    """The first ``count`` events in batches."""
    found = made(min(count, LONGEST))
    while count > 0:
        for start in range(0, min(count, LONGEST), BATCH):
            yield found[start : min(start + BATCH, count)]
        count -= LONGEST
