"""What the operators mean: windows, event time, joins, unions, connected streams, sinks, Beam behind it all."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms import trigger

import sage
from sage.errors import ConfigError
from sage.testing import FN_API_RUNNER, assert_same_on, collect

MakeEnv = Callable[[], sage.LocalEnvironment]

LEFT = [("a", 1), ("a", 2), ("b", 3), (None, 4)]
RIGHT = [("a", "x"), ("c", "y"), ("c", "z"), (None, "u")]
INNER = [("a", (1, "x")), ("a", (2, "x"))]
LEFT_ALONE = [("b", (3, None)), (None, (4, None))]
RIGHT_ALONE = [("c", (None, "y")), ("c", (None, "z")), (None, (None, "u"))]
JOINED = {
    "inner": INNER,
    "left": [*INNER, *LEFT_ALONE],
    "right": [*INNER, *RIGHT_ALONE],
    "full": [*INNER, *LEFT_ALONE, *RIGHT_ALONE],
    "semi": [("a", 1), ("a", 2)],
    "anti": [("b", 3), (None, 4)],
}


@pytest.mark.parametrize("how", list(JOINED))
def test_join(env: sage.LocalEnvironment, how: str) -> None:
    left, right = env.from_collection(LEFT).as_keyed(), env.from_collection(RIGHT).as_keyed()
    assert sorted(collect(left.join(right, how=how)), key=repr) == sorted(JOINED[how], key=repr)


def test_joins_are_the_same_on_beams_own_runner() -> None:
    env = sage.Environment("joins", {"runner": FN_API_RUNNER})
    left, right = env.from_collection(LEFT).as_keyed(), env.from_collection(RIGHT).as_keyed()
    joins = [left.join(right, how=how).map(lambda kv, how: (how, kv), {"how": how}) for how in JOINED]
    expected = [(how, pair) for how, pairs in JOINED.items() for pair in pairs]
    assert sorted(collect(joins[0].union(*joins[1:])), key=repr) == sorted(expected, key=repr)


def test_join_on_key_functions(env: sage.LocalEnvironment) -> None:
    people = env.from_collection([{"id": 1, "name": "Ada"}])
    visits = env.from_collection([{"person": 1, "at": 9}, {"person": 2, "at": 10}])
    joined = people.join(visits, on=(operator.itemgetter("id"), operator.itemgetter("person")))
    assert collect(joined) == [(1, ({"id": 1, "name": "Ada"}, {"person": 1, "at": 9}))]


def test_join_in_windows(env: sage.LocalEnvironment) -> None:
    left = env.from_collection([("k", 1), ("k", 61)]).with_timestamps(lambda kv: kv[1]).as_keyed()
    right = env.from_collection([("k", 2)]).with_timestamps(lambda kv: kv[1]).as_keyed()
    assert collect(left.join(right, window=sage.TumblingWindows("1m"))) == [("k", (1, 2))]


def test_join_refuses_streams_without_key_and_unknown_kinds(env: sage.LocalEnvironment) -> None:
    one = env.from_collection([1])
    with pytest.raises(ConfigError, match="both streams must be keyed"):
        one.join(env.from_collection([2]))
    keyed = one.key_by(lambda v: v)
    with pytest.raises(ConfigError, match="unknown how='iner'; did you mean 'inner'"):
        keyed.join(keyed, how="iner")


WINDOWED = [
    (sage.TumblingWindows("10s"), [("k", 3), ("k", 8)]),
    (sage.TumblingWindows(size=10, offset=5), [("k", 3), ("k", 8)]),
    (sage.SlidingWindows(datetime.timedelta(seconds=10), every="5s"), [("k", 3), ("k", 3), ("k", 8), ("k", 8)]),
    (sage.SessionWindows(5), [("k", 3), ("k", 8)]),
    (sage.GlobalWindow(), [("k", 11)]),
    (beam.window.FixedWindows(100), [("k", 11)]),
]


def _summed(env: sage.Environment, windows: Any) -> sage.Stream:
    stream = env.from_collection([(6, 1), (8, 2), (16, 8)]).with_timestamps(lambda e: e[0])
    return stream.key_by(lambda e: "k").map_values(lambda e: e[1]).window(windows).aggregate(sum)


@pytest.mark.parametrize(("windows", "expected"), WINDOWED)
def test_windows(env: sage.LocalEnvironment, windows: Any, expected: Any) -> None:
    assert sorted(collect(_summed(env, windows))) == expected


def test_windows_are_the_same_on_beams_own_runner() -> None:
    env = sage.Environment("windows", {"runner": FN_API_RUNNER})
    summed = [
        _summed(env, windows).window(sage.GlobalWindow()).map(lambda kv, case: (case, kv), {"case": case})
        for case, (windows, _) in enumerate(WINDOWED)
    ]
    expected = [(case, pair) for case, (_, pairs) in enumerate(WINDOWED) for pair in pairs]
    assert sorted(collect(summed[0].union(*summed[1:]))) == expected


def test_window_passes_trigger_and_lateness_to_beam(env: sage.LocalEnvironment) -> None:
    early = trigger.AfterWatermark(early=trigger.AfterCount(1))
    windowed = env.from_collection([1]).window(
        sage.TumblingWindows(60), trigger=early, accumulation="accumulating", allowed_lateness="5m"
    )
    windowing = windowed.pcollection.windowing
    assert windowing.windowfn == beam.window.FixedWindows(60)
    assert windowing.triggerfn == early
    assert windowing.accumulation_mode == trigger.AccumulationMode.ACCUMULATING
    assert windowing.allowed_lateness == beam.utils.timestamp.Duration(300)


@pytest.mark.parametrize(
    ("windows", "arguments", "message"),
    [
        ("1m", {}, "expected TumblingWindows"),
        (sage.TumblingWindows("60"), {}, "has no unit"),
        (sage.TumblingWindows(0), {}, "size must be more than nothing"),
        (sage.TumblingWindows(1), {"trigger": trigger.AfterCount(1)}, "needs accumulation="),
        (sage.TumblingWindows(1), {"accumulation": "accumulate"}, "did you mean 'accumulating'"),
    ],
)
def test_window_refuses(env: sage.LocalEnvironment, windows: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        env.from_collection([1]).window(windows, **arguments)


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (1.5, "s"),
        (1500, "ms"),
        (1_500_000, "us"),
        (beam.utils.timestamp.Timestamp(1.5), "s"),
        (datetime.datetime(1970, 1, 1, 1, 0, 1, 500_000, tzinfo=datetime.timezone(datetime.timedelta(hours=1))), "s"),
    ],
)
def test_event_time_in_any_unit(env: sage.LocalEnvironment, time: Any, unit: str) -> None:
    def event_time(value: Any, at: Any = beam.DoFn.TimestampParam) -> float:
        return float(at)

    stamped = env.from_collection(["v"]).with_timestamps(lambda _: time, unit=unit)
    assert collect(stamped.apply(beam.Map(event_time))) == [1.5]


def test_union(env: sage.LocalEnvironment) -> None:
    one, two, three = (env.from_collection([n]) for n in (1, 2, 3))
    assert sorted(collect(one.union(two, three))) == [1, 2, 3]
    assert not isinstance(one.union(two), sage.KeyedStream)
    assert isinstance(one.key_by(str).union(two.key_by(str)), sage.KeyedStream)


class Describe(sage.CoMapFunction[int, str, str]):
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def map1(self, value: int) -> str:
        return f"{self.mark}{value}"

    def map2(self, value: str) -> str:
        return value


class Spread(sage.CoFlatMapFunction[int, str, str]):
    def flat_map1(self, value: int) -> Iterator[str]:
        yield from "n" * value

    def flat_map2(self, value: str) -> list[str]:
        return list(value)


def test_connected_map(make_env: MakeEnv) -> None:
    env = make_env()
    numbers, words = env.from_collection([1, 2]), env.from_collection(["x"])
    assert sorted(collect(numbers.connect(words).map(lambda n: str(n), str.upper))) == ["1", "2", "X"]
    env = make_env()
    numbers, words = env.from_collection([1, 2]), env.from_collection(["x"])
    assert sorted(collect(numbers.connect(words).map(Describe, config={"mark": "#"}))) == ["#1", "#2", "x"]


def test_connected_flat_map(env: sage.LocalEnvironment) -> None:
    numbers, words = env.from_collection([2]), env.from_collection(["xy"])
    out = numbers.connect(words).flat_map(Spread()).union(numbers.connect(words).flat_map(lambda n: [n], list))
    assert sorted(map(str, collect(out))) == ["2", "n", "n", "x", "x", "y", "y"]


def test_connected_streams_refuse_what_does_not_fit(env: sage.LocalEnvironment) -> None:
    connected = env.from_collection([1]).connect(env.from_collection(["x"]))
    with pytest.raises(ConfigError, match="need two functions, or a CoMapFunction"):
        connected.map(str)
    with pytest.raises(ConfigError, match="unknown config key 'marc'; did you mean 'mark'"):
        connected.map(Describe, config={"marc": "#"})


def test_any_beam_transform_can_be_applied(env: sage.LocalEnvironment) -> None:
    kept, failed = env.from_collection([1, 0]).apply(
        beam.Map(lambda v: 1 // v).with_exception_handling(), label="Divide"
    )
    assert isinstance(kept, sage.Stream)
    assert isinstance(failed, sage.Stream)
    assert sorted(collect(kept.map(str).union(failed.map(lambda bad: str(bad[0]))))) == ["0", "1"]
    assert "Divide" in env.pipeline.applied_labels


def test_a_beam_dofn_can_be_processed(env: sage.LocalEnvironment) -> None:
    class Half(beam.DoFn):
        def process(self, element: int, window: Any = beam.DoFn.WindowParam) -> Iterator[tuple[int, str]]:
            yield element // 2, type(window).__name__

    assert collect(env.from_collection([4]).process(Half())) == [(2, "GlobalWindow")]


def test_labels_are_made_of_function_names_and_stay_unique(env: sage.LocalEnvironment) -> None:
    stream = env.from_collection([1]).map(abs).map(abs).map(lambda v: v).map(abs, name="again")
    labels = env.pipeline.applied_labels
    assert {"from_collection", "map(abs)", "map(abs)_2", "map(lambda)", "again"} <= labels
    with pytest.raises(ConfigError, match="a step named 'again' exists already"):
        stream.map(abs, name="again")


def test_a_misspelt_argument_is_refused(env: sage.LocalEnvironment) -> None:
    with pytest.raises(ConfigError, match=r"map\(abs\): unknown argument 'paralelism'; did you mean 'parallelism'"):
        env.from_collection([1]).map(abs, paralelism=2)  # type: ignore[call-arg]


def test_one_pipeline_gives_the_same_on_both_runners() -> None:
    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        words = pipeline | beam.Create(["to be", "or not to be"]) | beam.FlatMap(str.split)
        return words | beam.combiners.Count.PerElement()

    assert sorted(assert_same_on(build)) == [("be", 2), ("not", 1), ("or", 1), ("to", 2)]


def test_one_job_can_be_collected_from_more_than_once(env: sage.LocalEnvironment) -> None:
    one = env.from_collection([1])
    assert (collect(one), collect(one.map(str))) == ([1], ["1"])


def test_a_difference_between_runs_is_reported() -> None:
    class Mood:
        calls = 0

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        Mood.calls += 1
        return pipeline | beam.Create([Mood.calls])

    with pytest.raises(AssertionError, match=r"1 missing \[1\], 1 too many \[2\]"):
        assert_same_on(build)
