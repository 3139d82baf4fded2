"""What a case of the corpus is, and how it is run in a given way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from sage.runners.local import LocalRunner

Build = Callable[[beam.Pipeline], beam.PCollection[Any]]

CASES: dict[str, Case] = {}


@dataclass(frozen=True)
class Case:
    """A small pipeline and all that comes out of it, in any order.

    ``paths`` says which way some of its steps take when the engine is free to choose. A case that ``is_streamed``
    reads a test stream, whose clock only one worker can keep.
    """

    name: str
    build: Build
    expected: list[Any]
    paths: Mapping[str, str] = field(default_factory=dict)
    is_streamed: bool = False


def case(expected: Iterable[Any], *, streamed: bool = False, **paths: str) -> Callable[[Build], Build]:
    """Adds the function below it to the corpus, under its own name."""

    def add(build: Build) -> Build:
        name = build.__name__
        CASES[name] = Case(name, build, list(expected), paths, streamed)
        return build

    return add


class _Note(beam.DoFn):
    """Appends each element to a file: a short write to the end of one is whole, whoever else writes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def process(self, element: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{element!r}\n")


class Branch(beam.PTransform):
    """A case within a pipeline; what comes out is noted in a file."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case.name)
        self.case = case
        self.path = folder / case.name

    def expand(self, pbegin: Any) -> Any:
        return self.case.build(pbegin) | "note" >> beam.ParDo(_Note(str(self.path)))


def run(cases: Iterable[Case], folder: Path, *options: str) -> tuple[dict[str, list[str]], Any]:
    """Runs cases as branches of one pipeline; what came out of each, sorted, and the result of the job."""
    cases = list(cases)
    pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(list(options)))
    for one in cases:
        pipeline | Branch(one, folder)
    result = pipeline.run()
    result.wait_until_finish()
    return {one.name: _lines(folder / one.name) for one in cases}, result


def _lines(path: Path) -> list[str]:
    return sorted(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []


def stamped(pairs: Iterable[tuple[Any, int]]) -> beam.PTransform:
    """Elements with their timestamps (s), from pairs of both."""
    return _Stamped(list(pairs))


class _Stamped(beam.PTransform):
    def __init__(self, pairs: list[tuple[Any, int]]) -> None:
        super().__init__()
        self.pairs = pairs

    def expand(self, pbegin: Any) -> Any:
        return pbegin | beam.Create(self.pairs) | "stamp" >> beam.MapTuple(TimestampedValue)


def stream(*events: Any) -> TestStream:
    """A test stream of elements: a number moves the watermark (s), ``("clock", n)`` the clock by ``n`` s, a list
    holds (element, timestamp) pairs.
    """
    made = TestStream()
    for event in events:
        if isinstance(event, list):
            made.add_elements([TimestampedValue(value, stamp) for value, stamp in event])
        elif isinstance(event, tuple):
            made.advance_processing_time(event[1])
        else:
            made.advance_watermark_to(event)
    return made.advance_watermark_to_infinity()
