"""What must not grow in a job that runs for long: ``python -m tests.benchmarks.steady polls|dead``.

``polls``: a splittable DoFn that defers itself after each poll; the size of its checkpoints from first to last.
``dead``: elements of which one in a hundred raises and goes to a dead letter; resident memory from a tenth to the end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration

from sage.runners.local import LocalRunner
from sage.sources import Batch, ReadStream, SplitReader, StreamSource

POLLS = 100_000
ELEMENTS = 10_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")


class _Polls(RestrictionProvider):
    def initial_restriction(self, element: int) -> OffsetRange:
        return OffsetRange(0, element)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: int, restriction: OffsetRange) -> int:
        return restriction.size()


class Poll(beam.DoFn):
    """One output, then asks to be called again at once."""

    @beam.DoFn.unbounded_per_element()
    def process(self, element: int, tracker: Any = beam.DoFn.RestrictionParam(_Polls())) -> Iterator[int]:
        at = tracker.current_restriction().start
        if tracker.try_claim(at):
            yield at
            tracker.defer_remainder(Duration(0))


class _Reader(SplitReader[int]):
    def __init__(self, position: int) -> None:
        self.at = position

    def poll(self, limit: int) -> Batch | None:
        numbers = range(self.at, min(self.at + limit, ELEMENTS))
        self.at = numbers.stop
        return Batch(list(numbers), 0) if numbers else None

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return 0

    @property
    def finished(self) -> bool:
        return self.at >= ELEMENTS


class Numbers(StreamSource[int]):
    """`ELEMENTS` numbers."""

    def splits(self) -> list[str]:
        return ["only"]

    def reader(self, split: Any, position: Any) -> _Reader:
        return _Reader(position or 0)


def invert(number: int) -> float:
    return 1 / (number % 100)


def resident() -> int:
    """Resident memory of this process (bytes)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def watched(build: Callable[[beam.Pipeline], Any], look: Callable[[Any], int], count: int) -> list[int]:
    """Runs a job, and looks at it every quarter of a second; its last step must take so many elements in."""
    with TemporaryDirectory() as kept:
        pipeline = beam.Pipeline(
            LocalRunner(), options=PipelineOptions([], checkpoint_dir=kept, checkpoint_interval="250ms")
        )
        build(pipeline)
        job, seen = pipeline.run(), []
        while job.state == "RUNNING":
            time.sleep(0.25)
            seen.append(look(job))
        job.wait_until_finish()
        came = job.progress()[-1].elements_in
        assert came == count, f"{came} elements, not {count}"
        return [value for value in seen if value]


def polls() -> str:
    sizes = watched(
        lambda p: p | beam.Create([POLLS]) | beam.ParDo(Poll()) | "last" >> beam.Map(lambda number: None),
        lambda job: 0 if (taken := job.vitals().checkpoint) is None else taken.size_bytes,
        POLLS,
    )
    return f"checkpoints over {POLLS:,} polls: {sizes[0]:,} bytes first, {max(sizes):,} at most, {sizes[-2]:,} at last"


def dead() -> str:
    def build(pipeline: beam.Pipeline) -> None:
        good, bad = pipeline | ReadStream(Numbers()) | beam.Map(invert).with_exception_handling()
        good | "good" >> beam.Map(lambda value: None)
        bad | "bad" >> beam.Map(lambda letter: None)

    sizes = watched(build, lambda job: resident(), ELEMENTS // 100)
    early = sizes[len(sizes) // 10]
    return (
        f"resident over {ELEMENTS:,} elements, 1 % dead: {early / 1e6:.0f} MB at a tenth,"
        f" {max(sizes) / 1e6:.0f} MB at most, {sizes[-1] / 1e6:.0f} MB at the end"
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or ["polls", "dead"]:
        print({"polls": polls, "dead": dead}[name](), flush=True)
