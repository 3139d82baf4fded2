"""Event times in whole microseconds: a column of them is a list of timestamps to whoever asks."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders.coders import IntervalWindowCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import window
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.core.blocks import Block, TimestampColumn
from sage.runners.local import LocalRunner
from sage.sources import Batch, ReadStream, SplitReader, StreamSource

MICROS = [5_000_000, 1, -7, 12_000_001]
STAMPS = [Timestamp(micros=micros) for micros in MICROS]


def test_it_is_a_list_of_timestamps() -> None:
    stamps = TimestampColumn(MICROS)
    assert list(stamps) == STAMPS == stamps
    assert stamps[1] == STAMPS[1]
    assert list(stamps[1:3]) == STAMPS[1:3]
    assert list(stamps.pick([3, 0])) == [STAMPS[3], STAMPS[0]]
    assert (list(stamps.micros), stamps.minimum) == (MICROS, -7)
    assert pickle.loads(pickle.dumps(stamps)) == STAMPS


def test_windowed_values_of_a_block_have_their_times() -> None:
    block = Block(list("abcd"), TimestampColumn(MICROS))
    found = [(value.value, value.timestamp) for value in block.windowed_values()]
    assert found == list(zip("abcd", STAMPS, strict=True))
    assert [value.timestamp for value in block.pick([2, 1]).windowed_values()] == [STAMPS[2], STAMPS[1]]


class Numbers(StreamSource[int]):
    """0 .. 99, a second apart, in batches of 7."""

    def splits(self) -> Sequence[Any]:
        return ["only"]

    def reader(self, split: Any, position: Any) -> SplitReader[int]:
        return NumbersReader(position or 0)


class NumbersReader(SplitReader[int]):
    def __init__(self, at: int) -> None:
        self.at = at

    def poll(self, limit: int) -> Batch | None:
        values = list(range(self.at, min(self.at + 7, 100)))
        self.at += len(values)
        return Batch(values, [value * 1_000_000 for value in values]) if values else None

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return self.at * 1_000_000

    @property
    def finished(self) -> bool:
        return self.at == 100


class ByValue(window.NonMergingWindowFn):
    """A window function of a user: multiples of ten are in a window of their own."""

    def assign(self, context: Any) -> list[window.IntervalWindow]:
        end = context.timestamp + (1 if context.element % 10 == 0 else 5)
        return [window.IntervalWindow(context.timestamp, end)]

    def get_window_coder(self) -> Any:
        return IntervalWindowCoder()


def seconds(value: int, at: Any = beam.DoFn.TimestampParam) -> tuple[str, int]:
    return "seconds", value - int(at)


def tagged(value: int) -> Any:
    return TaggedOutput("odd", value) if value % 2 else value


def restamped(value: int) -> Any:
    return window.TimestampedValue(value, value + 1_000) if value % 3 == 0 else value


def bounds(value: Any, at: Any = beam.DoFn.TimestampParam, where: Any = beam.DoFn.WindowParam) -> tuple[Any, ...]:
    return "bounds", value, float(at), float(where.max_timestamp())


def results(numbers: Any) -> list[Any]:
    """Branches that look at time in every way there is."""
    both = numbers | "tag" >> beam.Map(tagged).with_outputs("odd", main="even")
    sliding = numbers | "sliding" >> beam.WindowInto(window.SlidingWindows(20, 15))
    keyed = sliding | "keyed" >> beam.Map(lambda value: (value % 3, value))
    grouped = keyed | beam.GroupByKey() | "sort" >> beam.Map(lambda group: (group[0], sorted(group[1])))
    return [
        numbers | "seconds" >> beam.Map(seconds),
        both.even | "even" >> beam.Map(seconds) | "e" >> beam.Map(lambda pair: ("even", pair[1])),
        both.odd | "odd" >> beam.Map(bounds) | "o" >> beam.Map(lambda found: ("odd", *found)),
        numbers | "restamp" >> beam.Map(restamped) | "new" >> beam.Map(bounds),
        numbers | "own" >> beam.WindowInto(ByValue()) | "in own" >> beam.Map(bounds),
        keyed | beam.CombinePerKey(sum) | "s" >> beam.Map(bounds),
        grouped | "g" >> beam.Map(bounds),
    ]


@pytest.mark.parametrize("way", ["auto", "compiled"])
def test_every_way_sees_the_same_times(way: str, tmp_path: Path) -> None:
    expected = run("general", tmp_path / "general")
    assert len(expected) > 400
    assert run(way, tmp_path / way) == expected


class Append(beam.DoFn):
    """Lines at the end of a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def start_bundle(self) -> None:
        self.file = open(self.path, "a")  # noqa: SIM115

    def process(self, element: Any) -> None:
        self.file.write(f"{element!r}\n")

    def finish_bundle(self) -> None:
        self.file.close()


def run(way: str, path: Path) -> list[str]:
    options = PipelineOptions(["--streaming", f"--execution_path={way}"])
    with beam.Pipeline(LocalRunner(), options=options) as pipeline:
        for number, branch in enumerate(results(pipeline | ReadStream(Numbers()))):
            branch | f"write {number}" >> beam.ParDo(Append(f"{path}-{number}"))
    return sorted(line for file in path.parent.glob(f"{path.name}-*") for line in file.read_text().splitlines())
