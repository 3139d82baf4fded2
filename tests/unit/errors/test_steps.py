"""What a step's code raises is one error, which names the step and the user's lines, however the step runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import fsspec
import pyarrow as pa
import pytest
from apache_beam.io import iobase
from apache_beam.io.range_trackers import OffsetRangeTracker
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from sage.errors import Fault


class Broken(beam.DoFn):
    """Raises in one of its methods."""

    def __init__(self, where: str) -> None:
        self.where = where

    def _at(self, where: str) -> None:
        if where == self.where:
            raise ValueError(f"in {where}")

    def setup(self) -> None:
        self._at("setup")

    def start_bundle(self) -> None:
        self._at("start_bundle")

    def process(self, element: Any) -> Iterator[Any]:
        self._at("process")
        yield element
        self._at("a generator halfway")

    def finish_bundle(self) -> None:
        self._at("finish_bundle")

    def teardown(self) -> None:
        self._at("teardown")


@pytest.mark.parametrize(
    "where", ["setup", "start_bundle", "process", "a generator halfway", "finish_bundle", "teardown"]
)
def test_a_dofn_that_raises(failing, where):
    def build(p):
        p | beam.Create([1, 2]) | "Broken" >> beam.ParDo(Broken(where)) | beam.Map(str)

    error = failing(build, "Broken", ValueError, f"in {where}")

    assert error.raised_at.text == 'raise ValueError(f"in {where}")'
    assert '"Broken" >> beam.ParDo' in error.applied_at.text
    assert error.fault is Fault.USER_CODE


@pytest.mark.parametrize("library", ["compiled", "plain"])
def test_what_a_library_raises_is_told_with_the_users_line_that_called_it(failing, library):
    def convert(value):
        if library == "plain":
            return fsspec.filesystem(value)
        return pa.scalar(value, pa.int64())

    error = failing(lambda p: p | beam.Create(["nope"]) | "Convert" >> beam.Map(convert), "Convert", Exception)

    line = "return fsspec.filesystem(value)" if library == "plain" else "return pa.scalar(value, pa.int64())"
    assert error.raised_at.text == line


def test_a_chain_names_the_step_that_raised_and_not_its_neighbours(failing):
    def build(p):
        (
            p
            | beam.Create([1, 0])
            | "Before" >> beam.Map(lambda n: n)
            | "Divide" >> beam.Map(lambda n: 1 // n)
            | "After" >> beam.Map(str)
        )

    error = failing(build, "Divide", ZeroDivisionError)

    assert "1 // n" in error.raised_at.text
    if sys.version_info >= (3, 11):  # Python 3.10 keeps no columns: the chain's first line is all it tells
        assert "Divide" in error.applied_at.text


@pytest.mark.parametrize(
    ("values", "match"), [([1, 2], "more than one element accessed as a singleton.*'Side/Map"), ([], "EmptySideInput")]
)
def test_a_singleton_of_no_or_two_elements(failing, values, match):
    def build(p):
        side = p | "Side" >> beam.Create(values)
        p | beam.Create([1]) | "Add" >> beam.Map(lambda n, m: n + m, beam.pvalue.AsSingleton(side))

    failing(build, "Add", TypeError if not values else ValueError, match)


def test_a_dict_view_of_what_are_no_pairs(failing):
    def build(p):
        side = p | "Side" >> beam.Create([1, 2])
        p | beam.Create([1]) | "Look up" >> beam.Map(lambda n, known: known[n], beam.pvalue.AsDict(side))

    failing(build, "Look up", TypeError, r"in the side input that 'Side/Map\(decode\)' makes")


def test_a_lambda_that_names_what_is_not_there(failing):
    def build(p):
        p | beam.Create([1]) | "Look" >> beam.Map(lambda n: NOWHERE[n])  # noqa: F821

    error = failing(build, "Look", NameError, "name 'NOWHERE' is not defined")

    assert "NOWHERE[n]" in error.raised_at.text


def test_a_lambda_of_a_namespace_of_its_own_finds_its_globals():
    source = """
import apache_beam as beam
from sage.runners.local import LocalRunner
from apache_beam.testing.util import assert_that, equal_to
KNOWN = {1: 2}
for flags in ([], ["--workers=2"]):
    with beam.Pipeline(runner=LocalRunner(), options=beam.options.pipeline_options.PipelineOptions(flags)) as p:
        assert_that(p | beam.Create([1]) | beam.Map(lambda n: KNOWN[n]), equal_to([2]))
"""
    exec(compile(source, "an example", "exec"), {"__name__": "example"})


def test_runtime_type_violations(failing):
    def build(p):
        p._options.view_as(beam.options.pipeline_options.TypeOptions).runtime_type_check = True
        p.runtime_type_check = True
        p | beam.Create([1]) | "Say" >> beam.Map(lambda n: n).with_output_types(str)

    failing(build, "Say", beam.typehints.decorators.TypeCheckError, "Runtime type violation")


class Offsets(RestrictionProvider):
    def initial_restriction(self, element: Any) -> OffsetRange:
        return OffsetRange(0, 10)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:
        return restriction.size()


class Stops(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(Offsets())):
        tracker.try_claim(0)
        yield element


def test_a_splittable_dofn_that_stops_early(failing):
    def build(p):
        p | beam.Create([1]) | "Stop" >> beam.ParDo(Stops())

    failing(build, "Stop", ValueError, "has not been claimed")


class Halfway(iobase.BoundedSource):
    def estimate_size(self) -> int:
        return 10

    def get_range_tracker(self, start: Any, stop: Any) -> OffsetRangeTracker:
        return OffsetRangeTracker(0, 10)

    def split(self, size: Any, start_position: Any = None, stop_position: Any = None) -> Any:
        yield iobase.SourceBundle(1, self, 0, 10)

    def read(self, tracker: Any) -> Iterator[int]:
        yield 1
        raise ValueError("in read")


def test_a_source_that_raises_halfway(failing):
    def build(p):
        p | "Source" >> beam.io.Read(Halfway())

    step = "Source/SDFBoundedSourceReader/ParDo(SDFBoundedSourceDoFn)"
    error = failing(build, step, ValueError, "in read")

    assert error.raised_at.text == 'raise ValueError("in read")'
