"""Nexmark on the local runner: the queries of the batch benchmark behind a source of unbounded type.

With checkpoints, which the peers are not asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from sage.sources import Batch, ReadStream, SplitReader, StreamSource
from tests.benchmarks import beams
from tests.benchmarks.nexmark.model import Event
from tests.benchmarks.nexmark.queries import QUERIES
from tests.benchmarks.stream import queries
from tests.benchmarks.stream.events import BATCH, CONFIG, LONGEST, made, stamps

__all__ = ["Replayed", "run"]

LOADS = {number: QUERIES[number].load for number in range(9)}
LOADS |= {3: queries.query3, 4: queries.query4, 6: queries.query6}


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
        self._count = count
        self._events = made(min(count, LONGEST))
        self._stamps = stamps(min(count, LONGEST))
        self._at = position

    def poll(self, limit: int) -> Batch | None:
        if self._at >= self._count:
            return None
        start = self._at % LONGEST
        end = min(start + min(limit, BATCH), LONGEST, start + self._count - self._at)
        self._at += end - start
        return Batch(self._events[start:end], self._stamps[start:end])

    def position(self) -> int:
        return self._at

    def watermark(self) -> int:
        return self._stamps[min(self._at, len(self._stamps)) - 1] if self._at else 0

    @property
    def finished(self) -> bool:
        return self._at >= self._count

    def lag(self) -> int:
        return self._count - self._at


def run(number: int, count: int, collect: bool, interval: str | None = "1s") -> list[Any]:
    """Q``number`` over ``count`` events; gives its outputs, if they are to be collected.

    Args:
        number: of the query.
        count: of events.
        collect: whether to keep what comes out; else it goes nowhere.
        interval: how often a checkpoint is taken; None for never.
    """
    beams.collected()
    with tempfile.TemporaryDirectory(prefix="nexmark-stream-") as folder:
        flags = [f"--checkpoint_dir={folder}", f"--checkpoint_interval={interval}"] if interval else []
        pipeline = beam.Pipeline(runner=beams.runner("sage"), options=beams.options("--streaming", *flags))
        stream = pipeline | "events" >> ReadStream(Replayed(count))
        outputs = LOADS[number](stream, CONFIG)
        if collect:
            outputs | "collect" >> beam.ParDo(beams.Collect())
        pipeline.run().wait_until_finish()
    return beams.collected()
