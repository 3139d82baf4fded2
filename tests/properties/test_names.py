"""Names of the user's never reach generated code: any text names an argument, an output, a state, a timer or a step."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.dataframe import expressions, partitionings
from apache_beam.dataframe.convert import to_dataframe, to_pcollection
from apache_beam.dataframe.frame_base import DeferredFrame
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.runners.local import LocalRunner

WAYS = ("auto", "compiled", "bound", "general")
ODD = [
    "a b", "class", "None", "__debug__", "match", "x\n", "'", '"""', "\\", "{0}", "a=1", "*", "", "\0", "\t", "ﬁ", "ª",
    "µ", "é", "e\u0301", "名前", "v", "values", "run",
    "f1", "_f1", "type", "iter", "#", "lambda: 0", "\r", "\u2028", "🙂",
]  # fmt: skip
TAKEN = {"element", "x"}  # by a parameter of Beam's wrapper, or of the function below

# What a proto can hold: any text without half a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAMES = (st.sampled_from([*ODD, *keyword.kwlist]) | TEXT).filter(lambda name: name not in TAKEN)


def gather(element, **named):  # type: ignore[no-untyped-def]  # Beam checks hints of **named against any name
    return element, sorted(named.items())


class Spread(beam.DoFn):
    """Gives its arguments to every output, and sees the window, so that side inputs are looked up for each."""

    def __init__(self, tags: Iterable[str]) -> None:
        self.tags = list(tags)

    def process(self, element, window=beam.DoFn.WindowParam, **named):  # type: ignore[no-untyped-def]
        found = sorted((name, sorted(value) if isinstance(value, list) else value) for name, value in named.items())
        yield element, found
        for tag in self.tags:
            yield beam.pvalue.TaggedOutput(tag, (element, tag, found))


def alarmed(state: str, timer: str) -> beam.DoFn:
    """A DoFn that counts the elements of a key in a state, and tells the count when a timer fires."""
    counted = userstate.CombiningValueStateSpec(state, sum)
    alarm = userstate.TimerSpec(timer, TimeDomain.WATERMARK)

    class Counted(beam.DoFn):
        def process(
            self,
            element: Any,
            total: Any = beam.DoFn.StateParam(counted),
            due: Any = beam.DoFn.TimerParam(alarm),
        ) -> None:
            total.add(1)
            due.set(100)

        @userstate.on_timer(alarm)
        def ring(self, key: Any = beam.DoFn.KeyParam, total: Any = beam.DoFn.StateParam(counted)) -> Iterator[Any]:
            yield key, total.read()

    return Counted()


class Sink(beam.DoFn):
    """Keeps what comes in a list of this process."""

    kept: list[Any] = []

    def process(self, element: Any, where: str) -> None:
        Sink.kept.append((where, element))


def run(way: str, build: Any) -> tuple[list[str], set[str]]:
    """What came out of the pipeline, sorted; the ways that its steps took."""
    Sink.kept.clear()
    pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--execution_path={way}"]))
    for label, collection in build(pipeline).items():
        collection | f"keep {label}" >> beam.ParDo(Sink(), label)
    result = pipeline.run()
    result.wait_until_finish()
    return sorted(map(repr, Sink.kept)), set(result.paths().values())


def same_each_way(build: Any) -> list[str]:
    """What comes out each way: it is the same."""
    answers = {way: run(way, build) for way in WAYS}
    assert {way for _, ways in answers.values() for way in ways} >= {"general", "compiled"}
    assert answers["general"][1] == {"general"}
    assert answers["auto"][1] <= {"compiled", "bound"}
    for way in WAYS:
        assert answers[way][0] == answers["general"][0], way
    return answers["general"][0]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    constants=st.dictionaries(NAMES, st.integers(), max_size=3),
    sides=st.lists(NAMES, max_size=2, unique=True),
    tags=st.lists(
        NAMES.filter(
            lambda tag: tag not in ("", "main", "None")  # Beam 2.61 calls the main output so
        ),
        max_size=2,
        unique=True,
    ),
    labels=st.lists(NAMES.filter(bool), min_size=2, max_size=2, unique=True),
)
def test_any_names_of_arguments_outputs_and_steps(
    constants: dict[str, int], sides: list[str], tags: list[str], labels: list[str]
) -> None:
    sides = [side for side in sides if side not in constants and side != "window"]
    constants = {name: value for name, value in constants.items() if name != "window"}

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        numbers = pipeline | "numbers of the job" >> beam.Create([1, 2])
        views = {
            name: beam.pvalue.AsList(pipeline | f"side {at}" >> beam.Create([at, at + 1]))
            for at, name in enumerate(sides)
        }
        first = numbers | labels[0] + "0" >> beam.Map(gather, **constants, **views)
        spread = numbers | labels[1] + "1" >> beam.ParDo(Spread(tags), **constants, **views).with_outputs(
            *tags, main="main"
        )
        return {"first": first, "main": spread.main, **{f"tag {at}": spread[tag] for at, tag in enumerate(tags)}}

    given = sorted([*constants.items(), *((name, [at, at + 1]) for at, name in enumerate(sides))])
    expected: list[Any] = []
    for element in (1, 2):
        expected += [("first", (element, given)), ("main", (element, given))]
        expected += [(f"tag {at}", (element, tag, given)) for at, tag in enumerate(tags)]
    assert same_each_way(build) == sorted(map(repr, expected))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(state=NAMES.filter(bool), timer=NAMES.filter(bool), label=NAMES.filter(bool))
def test_any_names_of_state_timers_and_their_steps(state: str, timer: str, label: str) -> None:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        pairs = pipeline | "pairs of the job" >> beam.Create([("a", 1), ("b", 2), ("a", 3)])
        return {"counts": pairs | label + "0" >> beam.ParDo(alarmed(state, timer))}

    assert same_each_way(build) == ["('counts', ('a', 2))", "('counts', ('b', 1))"]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_of_an_argument_reaches_the_function_as_it_is(name: str) -> None:
    build = lambda pipeline: {"out": pipeline | beam.Create([1]) | beam.Map(gather, **{name: 7})}  # noqa: E731
    assert same_each_way(build) == [repr(("out", (1, [(name, 7)])))]


def stamped(element, other=1, when=beam.DoFn.TimestampParam, **named):  # type: ignore[no-untyped-def]
    yield element, other


@pytest.mark.parametrize("way", WAYS)
def test_an_argument_twice_is_the_error_it_is_on_beam(way: str) -> None:
    build = lambda pipeline: {"out": pipeline | beam.Create([1]) | beam.FlatMap(stamped, 2, when=7)}  # noqa: E731
    with pytest.raises(Exception, match=r"multiple values for (keyword )?argument 'when'"):
        run(way, build)


@pytest.mark.parametrize("way", ["auto", "general"])
def test_a_dataframe_whose_expressions_have_any_names_runs(way: str) -> None:
    pytest.importorskip("pandas")

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        rows = pipeline | beam.Create([beam.Row(a=number, b=number % 2) for number in range(6)])
        frame = to_dataframe(rows)
        with expressions.allow_non_parallel_operations():
            total = expressions.ComputedExpression(
                "sum of 'a'\n", lambda series: series.sum(), [frame.a._expr],
                requires_partition_by=partitionings.Singleton(), preserves_partition_by=partitionings.Singleton(),
            )  # fmt: skip
        return {"shares": to_pcollection(frame.a / DeferredFrame.wrap(total))}

    found, _ = run(way, build)
    assert found == sorted(repr(("shares", number / 15)) for number in range(6))


def behind(element, other=1, when=beam.DoFn.TimestampParam):  # type: ignore[no-untyped-def]
    yield element, when


def test_an_argument_that_takes_the_place_of_a_parameter_of_beams_runs_as_on_beam() -> None:
    build = lambda pipeline: {"out": pipeline | beam.Create([1]) | beam.FlatMap(behind, when=7)}  # noqa: E731
    assert [run(way, build)[0] for way in WAYS] == [[repr(("out", (1, 7)))]] * len(WAYS)
