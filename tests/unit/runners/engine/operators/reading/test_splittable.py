"""A splittable DoFn that never defers is split by the engine, so that others get their turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.core import RestrictionProvider

from sage.runners.local import LocalRunner

ROWS = 2_000


class Rows(RestrictionProvider):
    def initial_restriction(self, element: int) -> OffsetRange:
        return OffsetRange(0, element)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: int, restriction: OffsetRange) -> int:
        return restriction.size()


class Read(beam.DoFn):
    """Gives each offset it claims, and counts how often it was called."""

    CALLS = beam.metrics.Metrics.counter("test", "calls")

    @beam.DoFn.unbounded_per_element()
    def process(self, element: int, tracker: Any = beam.DoFn.RestrictionParam(Rows())) -> Iterator[int]:
        self.CALLS.inc()
        at = tracker.current_restriction().start
        while tracker.try_claim(at):
            yield at
            at += 1


def test_each_offset_comes_once_however_often_the_restriction_is_split() -> None:
    options = PipelineOptions(["--max_bundle_time=0ms"])
    with beam.Pipeline(runner=LocalRunner(), options=options) as pipeline:
        rows = pipeline | beam.Create([ROWS]) | beam.ParDo(Read())
        assert_that(rows, equal_to(range(ROWS)))
    (calls,) = pipeline.result.metrics().query(beam.metrics.MetricsFilter().with_name("calls"))["counters"]
    assert calls.committed > 5, "the restriction was split"
