"""Elements stamped ahead of the clock keep their timestamps, and do not make those behind them late."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from sage.runners.local import LocalRunner
from sage.sources import Batch, ReadStream, SplitReader, StreamSource

SECOND = 1_000_000
YEAR_2128 = 4_985_000_000 * SECOND
RUNNERS = {
    "local": (LocalRunner, []),
    "general": (LocalRunner, ["--execution_path=general"]),
    "two workers": (LocalRunner, ["--workers=2"]),
}


class _Stamped(SplitReader[int]):
    """Gives one element at a time, and takes the highest timestamp so far for the watermark."""

    def __init__(self, source: Stamped, position: int) -> None:
        self.source, self.at = source, position
        self.newest = max(source.stamps[:position], default=0)

    def poll(self, limit: int) -> Batch | None:
        if self.finished:
            return None
        stamp = self.source.stamps[self.at]
        self.at += 1
        self.newest = max(self.newest, stamp)
        return Batch([stamp], [stamp])

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return self.newest

    @property
    def finished(self) -> bool:
        return self.at >= len(self.source.stamps)


class Stamped(StreamSource[int]):
    """Elements with these timestamps (microseconds), each read in a turn of its own."""

    max_poll_records = 1

    def __init__(self, stamps: Sequence[int], lead_ms: int | None = 0) -> None:
        self.stamps, self.max_watermark_lead_ms = stamps, lead_ms

    def splits(self) -> Sequence[int]:
        return [0]

    def reader(self, split: int, position: Any) -> _Stamped:
        return _Stamped(self, position or 0)


@pytest.mark.parametrize("how", RUNNERS)
def test_one_element_stamped_in_another_century_takes_nobody_elses_place(how: str) -> None:
    now = time.time_ns() // 10**10 * 10 * SECOND  # in whole tens of seconds
    soon = now + 60 * SECOND
    stamps = [now + 1] * 5 + [YEAR_2128] + [soon + 1] * 20
    made, options = RUNNERS[how]
    with beam.Pipeline(runner=made(), options=PipelineOptions(options)) as pipeline:
        counts = pipeline | ReadStream(Stamped(stamps)) | beam.ParDo(_Keep()) | _Count()
        assert_that(counts, equal_to([(now // SECOND, 5), (YEAR_2128 // SECOND, 1), (soon // SECOND, 20)]))


class _Keep(beam.DoFn):
    """Looks at each element's own timestamp."""

    def process(self, element: int, stamp: Any = beam.DoFn.TimestampParam) -> Any:
        assert stamp.micros == element
        return (element,)


class _Count(beam.PTransform):
    """How many elements are in each window of ten seconds, by the window's start (s)."""

    def expand(self, rows: Any) -> Any:
        return (
            rows
            | beam.WindowInto(beam.window.FixedWindows(10))
            | beam.Map(lambda stamp: ("k", 1))
            | beam.CombinePerKey(sum)
            | beam.Map(lambda pair, window=beam.DoFn.WindowParam: (int(window.start), pair[1]))
        )


def test_a_source_of_simulated_time_may_be_ahead_of_the_clock() -> None:
    stamps = [YEAR_2128, YEAR_2128 + 10 * SECOND, YEAR_2128 + 5 * SECOND]
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        counts = pipeline | ReadStream(Stamped(stamps, lead_ms=None)) | _Count()
        # The watermark goes with the elements, so that the last one is late.
        assert_that(counts, equal_to([(YEAR_2128 // SECOND, 1), (YEAR_2128 // SECOND + 10, 1)]))
