"""Bounded event sources: made as they are read, or made before and only replayed."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from tests.benchmarks.nexmark.generator import events
from tests.benchmarks.nexmark.model import Config, Event

__all__ = ["Replay", "made_before"]


@functools.lru_cache(maxsize=4)
def made_before(count: int, config: Config) -> tuple[list[Event], list[TimestampedValue]]:
    """``count`` events, and the same with their event times; made once in a process."""
    made = list(events(count, config))
    stamped = [TimestampedValue(event, Timestamp(micros=event.date_time * 1_000)) for event in made]
    gc.collect()
    gc.freeze()
    return made, stamped


class Replay(beam.DoFn):
    """Gives out the first n events; what making them costs is met once in a process, off the clock."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def process(self, element: int) -> Iterator[Any]:
        yield from made_before(element, self.config)[1]
