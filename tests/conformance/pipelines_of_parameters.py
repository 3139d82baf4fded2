"""The corpus: parameters of a DoFn that few functions declare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.transforms import window

from tests.conformance.cases import case

P = beam.Pipeline
C = beam.PCollection[Any]


class Behind(beam.DoFn):
    """Takes the element behind an argument."""

    def process(self, factor: int, x: Any = beam.DoFn.ElementParam, when: Any = beam.DoFn.TimestampParam) -> Any:
        yield factor * x, when.micros


@case([(10, 1_000_000), (20, 2_000_000)], behind="bound", last="bound")
def element_that_is_not_the_first_argument(p: P) -> C:
    return (
        p
        | beam.Create([1, 2])
        | beam.Map(lambda x: window.TimestampedValue(x, x))
        | "behind" >> beam.ParDo(Behind(), 10)
        | "last" >> beam.Map(lambda x=beam.DoFn.ElementParam: x)
    )


@case([1], kept="general")
def filter_whose_first_argument_is_not_the_element(p: P) -> C:
    return p | beam.Create([1, 2]) | "kept" >> beam.Filter(lambda least, x=beam.DoFn.ElementParam: x > least, 1)


@case([(1, 1_000_000, [(0, 2)]), (3, 3_000_000, [(2, 4)]), (4, 4_000_000, [(4, 6)])], whole="bound", spread="bound")
def element_with_all_that_goes_with_it(p: P) -> C:
    def whole(x: int, all: Any = beam.DoFn.WindowedValueParam) -> Any:
        assert all.value == x
        return all

    def spread(_: Any, all: Any = beam.DoFn.WindowedValueParam) -> Any:
        return all.value, all.timestamp.micros, [(int(w.start), int(w.end)) for w in all.windows]

    placed = p | beam.Create([1, 3, 4]) | beam.Map(lambda x: window.TimestampedValue(x, x))
    return (
        placed | beam.WindowInto(window.FixedWindows(2)) | "whole" >> beam.Map(whole) | "spread" >> beam.Map(spread)
    )


@case([(1, [(-1, 3), (1, 5)])], whole="bound")
def element_with_all_its_windows(p: P) -> C:
    def whole(x: int, all: Any = beam.DoFn.WindowedValueParam) -> Any:
        return x, sorted((int(w.start), int(w.end)) for w in all.windows)

    placed = p | beam.Create([1]) | beam.Map(lambda x: window.TimestampedValue(x, x))
    sliding = placed | beam.WindowInto(window.SlidingWindows(4, 2, -1)) | "whole" >> beam.Map(whole)
    return sliding | "joined" >> beam.WindowInto(window.GlobalWindows()) | beam.Distinct()


class Finalized(beam.DoFn):
    """Gives each element twice, and hears when they are durable."""

    def process(self, x: int, end: Any = beam.DoFn.BundleFinalizerParam) -> Iterable[int]:
        end.register(lambda: None)
        return [x, x]


@case([1, 1, 2, 2], twice="bound")
def bundle_finalizer(p: P) -> C:
    return p | beam.Create([1, 2]) | "twice" >> beam.ParDo(Finalized())
