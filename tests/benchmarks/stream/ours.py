"""Nexmark on the local runner: the queries of the batch benchmark behind a source of unbounded type."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from sage.sources import Batch, ReadStream, SplitReader, StreamSource
from tests.benchmarks import beams
from tests.benchmarks.nexmark.model import Event
from tests.benchmarks.nexmark.queries import QUERIES
from tests.benchmarks.stream.events import BATCH, CONFIG, made, stamps

__all__ = ["Replayed", "run"]

ANSWERS: dict[int, Any] = dict.fromkeys(range(9))
"""The queries that this way can express, and why not for others: all of them."""


class Replayed(StreamSource[Event]):
    """The first ``count`` Nexmark events from memory, as one split whose position is the number of the next event."""

    def __init__(self, count: int) -> None:
        self.count = count

    def splits(self) -> Sequence[Any]:
        return [0]

    def reader(self, split: Any, position: Any) -> SplitReader[Event]:
        return _Reader(self.count, position or 0)


class _Reader(SplitReader[Event]):
    def __init__(self, count: int, position: int) -> None:
        self._events = made(count)
        self._stamps = stamps(count)
        self._at = position

    def poll(self, limit: int) -> Batch | None:
        start, end = self._at, self._at + min(limit, BATCH)
        values = self._events[start:end]
        if not values:
            return None
        self._at += len(values)
        return Batch(values, self._stamps[start:end])

    def position(self) -> int:
        return self._at

    def watermark(self) -> int:
        return self._stamps[self._at - 1] if self._at else 0

    @property
    def finished(self) -> bool:
        return self._at >= len(self._events)

    def lag(self) -> int:
        return len(self._events) - self._at


def run(number: int, count: int, interval: str | None = "1s") -> list[Any]:
    """Q``number`` over ``count`` events; gives its outputs.

    Args:
        interval: how often a checkpoint is taken; None for never.
    """
    beams.collected()
    with tempfile.TemporaryDirectory(prefix="nexmark-stream-") as folder:
        flags = [f"--checkpoint_dir={folder}", f"--checkpoint_interval={interval}"] if interval else []
        pipeline = beam.Pipeline(runner=beams.runner("sage"), options=beams.options("--streaming", *flags))
        stream = pipeline | "events" >> ReadStream(Replayed(count))
        QUERIES[number].load(stream, CONFIG) | "collect" >> beam.ParDo(beams.Collect())
        pipeline.run().wait_until_finish()
    return beams.collected()
