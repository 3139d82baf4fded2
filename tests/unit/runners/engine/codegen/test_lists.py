"""Outputs that go on as lists: they are what they would be one by one."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints.
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.userstate import CombiningValueStateSpec, ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.errors import StepError
from sage.runners.engine.codegen.lists import ListSplitter
from sage.runners.engine.codegen.sinks import BULK
from sage.runners.local import LocalRunner
from tests.unit.runners.engine.operators.test_two_phase_sink import TAKEN, Taking

WAYS = ["auto", "general"]


class Giving(beam.DoFn):
    """Gives each kind of result that a DoFn may, by turns."""

    def process(self, number: int) -> Iterable[Any]:
        kinds = (
            lambda: [number, number + 0.5],
            lambda: (number, -number),
            lambda: iter([number]),
            list,
            lambda: None,
            lambda: [number, TimestampedValue(-number, number)],
            lambda: [WindowedValue(number, Timestamp(5), (GlobalWindow(),)), number],
            lambda: [TaggedOutput("nobody", number), number],
            lambda: [number] * 1_000,
            lambda: (number for _ in range(1_000)),
        )
        return kinds[number % len(kinds)]()


def run(way: str, numbers: int, fn: beam.DoFn, *more: beam.PTransform) -> None:
    with beam.Pipeline(LocalRunner(), options=PipelineOptions([f"--execution_path={way}"])) as pipeline:
        given = pipeline | beam.Create(range(numbers)) | "Give" >> beam.ParDo(fn)
        for transform in more:
            given = given | transform


def taken(way: str) -> list[Any]:
    run(way, 200, Giving(), "Take" >> beam.ParDo(Taking()))
    return [value for some in TAKEN for value in some]


def test_a_step_that_takes_lists_is_given_everything() -> None:
    assert sorted(taken("auto")) == sorted(taken("general"))


def test_lists_are_neither_short_nor_long() -> None:
    found = taken("auto")
    assert len(found) > 100 * BULK
    assert max(map(len, TAKEN)) <= 2 * BULK
    assert len(found) / len(TAKEN) > BULK / 2


@pytest.mark.parametrize("way", WAYS)
def test_timestamps_are_those_of_the_outputs(way: str) -> None:
    stamped = beam.Map(lambda value, at=beam.DoFn.TimestampParam: (value, at.micros))
    run(way, 200, Giving(), beam.Reshuffle(), stamped, beam.Distinct(), "Take" >> beam.ParDo(Taking()))
    found = dict(value for some in TAKEN for value in some)
    assert found[-15] == 15_000_000
    assert found[0.5] < 0


class Failing(beam.DoFn):
    """Gives lists, and once begins to give what it then cannot."""

    def process(self, number: int) -> Iterable[int]:
        return self.half() if number == 500 else [number]

    def half(self) -> Iterator[int]:
        yield 1
        raise ValueError("no more")


@pytest.mark.parametrize("way", WAYS)
def test_an_error_between_two_outputs_is_told_of_the_step_that_gives_them(way: str) -> None:
    with pytest.raises(StepError, match=r"no more \[while running .Give"):
        run(way, 1_000, Failing(), "Take" >> beam.ParDo(Taking()))


class Text(beam.DoFn):
    def process(self, number: int) -> Any:
        return "text"


def test_text_as_a_result_is_what_this_beam_makes_of_it() -> None:
    found = []
    for way in WAYS:
        try:
            run(way, 3, Text(), "Take" >> beam.ParDo(Taking()))
            found.append(str([value for some in TAKEN for value in some]))
        except StepError as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert found[0] == str(["t", "e", "x", "t"] * 3) or "Returning a str" in found[0]


class Placed(beam.DoFn):
    """Has parameters of every kind, and in an order of its own."""

    SUM = CombiningValueStateSpec("sum", VarIntCoder(), sum)
    LAST = ReadModifyWriteStateSpec("last", VarIntCoder())

    def process(
        self,
        pair: tuple[str, int],
        factor: int,
        offset: int,
        last: Any = beam.DoFn.StateParam(LAST),
        window: Any = beam.DoFn.WindowParam,
        total: Any = beam.DoFn.StateParam(SUM),
        at: Any = beam.DoFn.TimestampParam,
    ) -> list[Any]:
        total.add(pair[1] * factor + offset)
        before = last.read() or 0
        last.write(pair[1])
        return [(pair[0], before, total.read(), str(window), at.micros < 0)]


@pytest.mark.parametrize("given", [((10, 7), {}), ((10,), {"offset": 7})])
def test_arguments_are_given_by_place_and_by_name(given: tuple[tuple[int, ...], dict[str, int]]) -> None:
    args, kwargs = given
    with beam.Pipeline(LocalRunner()) as pipeline:
        pairs = pipeline | beam.Create([("a", 1), ("b", 2), ("a", 3), ("a", 4)])
        _ = pairs | beam.ParDo(Placed(), *args, **kwargs) | beam.ParDo(Taking())
    found = [(*value[:3], value[3].endswith("GlobalWindow"), value[4]) for some in TAKEN for value in some]
    whole = [("a", 0, 17), ("a", 1, 54), ("a", 3, 101), ("b", 0, 27)]
    assert sorted(found) == [(*each, True, True) for each in whole]


def test_what_is_no_ordinary_element_is_handed_on_by_itself() -> None:
    special: list[Any] = []
    portions = ListSplitter(lambda *each: special.append(each))

    def cut(rows: list[Any]) -> list[list[Any]]:
        rooms = itertools.chain([2, 2], itertools.count(3))
        return list(portions.of(rows, lambda: next(rooms), "at", "in", "pane"))

    assert cut([1, "two", 3]) == [[1, "two", 3]]
    assert not portions.missed
    stamped = TimestampedValue(2, 0)
    assert cut([1, stamped, 3]) == [[1, 3]]
    assert portions.missed
    assert special == [(stamped, "at", "in", "pane")]
    assert cut([stamped]) == []
    assert cut([*range(7)]) == [[0, 1], [2, 3, 4], [5, 6]]
