"""Each operator takes a function, an instance, or a class with a config, and refuses what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pytest

import sage
from sage.errors import ConfigError
from sage.testing import collect


class AddN(sage.MapFunction[int, int]):
    def __init__(self, n: int, scale: int = 1) -> None:
        self.n, self.scale = n, scale

    def map(self, value: int) -> int:
        return value * self.scale + self.n


class Repeat(sage.FlatMapFunction[int, int]):
    def __init__(self, times: int = 2) -> None:
        self.times = times

    def flat_map(self, value: int) -> Iterable[int]:
        return [value] * self.times


class Above(sage.FilterFunction[int]):
    def __init__(self, threshold: int = 0) -> None:
        if threshold < 0:
            raise ValueError("threshold must not be negative")
        self.threshold = threshold

    def filter(self, value: int) -> bool:
        return value > self.threshold


class Larger(sage.ReduceFunction[int]):
    def reduce(self, first: int, second: int) -> int:
        return max(first, second)


class Modulo:
    """No function class of ours: any callable class goes with a config."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, value: int) -> int:
        return value % self.by


def add(value: int, n: int = 0) -> int:
    return value + n


def pair_up(value: int) -> tuple[int, int]:
    return value, -value


@pytest.mark.parametrize(
    ("function", "config"), [(lambda v: v + 10, None), (AddN(10), None), (AddN, {"n": 10}), (add, {"n": 10})]
)
def test_map(env: sage.LocalEnvironment, function: Any, config: Any) -> None:
    assert sorted(collect(env.from_collection([1, 2]).map(function, config))) == [11, 12]


def test_a_class_without_config_is_constructed_or_is_the_function_itself(env: sage.LocalEnvironment) -> None:
    assert sorted(collect(env.from_collection([1, 2]).flat_map(Repeat).map(str))) == ["1", "1", "2", "2"]


@pytest.mark.parametrize(("function", "config"), [(lambda v: [v, v], None), (Repeat(), None), (Repeat, {"times": 2})])
def test_flat_map(env: sage.LocalEnvironment, function: Any, config: Any) -> None:
    assert sorted(collect(env.from_collection([1, 2]).flat_map(function, config))) == [1, 1, 2, 2]


@pytest.mark.parametrize(("function", "config"), [(lambda v: v > 1, None), (Above(1), None), (Above, {"threshold": 1})])
def test_filter(env: sage.LocalEnvironment, function: Any, config: Any) -> None:
    assert collect(env.from_collection([1, 2]).filter(function, config)) == [2]


@pytest.mark.parametrize(("function", "config"), [(lambda v: v % 2, None), (Modulo(2), None), (Modulo, {"by": 2})])
def test_key_by(env: sage.LocalEnvironment, function: Any, config: Any) -> None:
    assert sorted(collect(env.from_collection([1, 2]).key_by(function, config))) == [(0, 2), (1, 1)]


@pytest.mark.parametrize("function", [max, lambda a, b: max(a, b), Larger(), Larger])
def test_reduce(env: sage.LocalEnvironment, function: Any) -> None:
    keyed = env.from_collection([1, 2, 3]).key_by(lambda v: v % 2)
    assert sorted(collect(keyed.reduce(function))) == [(0, 2), (1, 3)]


def test_reduce_without_key_folds_the_whole_window(env: sage.LocalEnvironment) -> None:
    assert collect(env.from_collection([1, 2, 3]).reduce(lambda a, b: a + b)) == [6]
    empty = sage.LocalEnvironment("empty")
    assert collect(empty.from_collection([], output_type=int).reduce(lambda a, b: a + b)) == []


@pytest.mark.parametrize(
    ("function", "expected"),
    [(sum, 4), (beam.combiners.MeanCombineFn(), 2.0), (beam.combiners.CountCombineFn, 2)],
)
def test_aggregate(env: sage.LocalEnvironment, function: Any, expected: object) -> None:
    keyed = env.from_collection([1, 3]).key_by(lambda v: "k")
    assert collect(keyed.aggregate(function)) == [("k", expected)]


def test_map_values_keeps_the_key(env: sage.LocalEnvironment) -> None:
    assert collect(env.from_collection([3]).key_by(lambda v: "k").map_values(lambda v: v + 1)) == [("k", 4)]


def test_side_outputs(env: sage.LocalEnvironment) -> None:
    def check(value: int) -> Iterator[Any]:
        yield value if value > 0 else sage.TaggedOutput("bad", value)

    checked = env.from_collection([1, -1]).flat_map(check, side_outputs=("bad",))
    both = checked.map(lambda v: ("good", v)).union(checked.side_output("bad").map(lambda v: ("bad", v)))
    assert sorted(collect(both)) == [("bad", -1), ("good", 1)]
    with pytest.raises(ConfigError, match="no side output 'bda'; declared: bad"):
        checked.side_output("bda")


@pytest.mark.parametrize("given", [AddN(1, scale=1), AddN])
def test_outputs_are_typed_by_annotation(env: sage.LocalEnvironment, given: Any) -> None:
    config = {"n": 1} if given is AddN else None
    assert env.from_collection([1]).map(given, config).pcollection.element_type is int
    assert env.from_collection([1]).flat_map(Repeat).pcollection.element_type is int
    pair = env.from_collection([1]).map(pair_up)
    assert pair.as_keyed().reduce(max).pcollection.element_type == beam.typehints.Tuple[int, int]


def test_a_bad_key_names_operator_and_key_and_what_was_meant(env: sage.LocalEnvironment) -> None:
    stream = env.from_collection([1])
    with pytest.raises(ConfigError) as failure:
        stream.filter(Above, {"treshold": 3})
    assert str(failure.value) == (
        "filter(Above): unknown config key 'treshold'; did you mean 'threshold'? Accepted keys: threshold"
    )
    with pytest.raises(ConfigError, match=re.escape("map(add): unknown config key 'm'")):
        stream.map(add, {"m": 1})


@pytest.mark.parametrize(
    ("operator", "arguments", "message"),
    [
        ("map", (AddN, {"scale": 2}), r"map\(AddN\): config lacks 'n'"),
        ("map", (AddN(1), {"n": 2}), r"map\(AddN\): config goes with a class"),
        ("map", (Above,), r"map\(Above\): map takes a function or a MapFunction, not a FilterFunction"),
        ("map", (42,), r"map\(int\): expected a function, a MapFunction instance"),
        ("map", (AddN, ["n"]), r"map\(AddN\): config must be a dict, not list"),
        ("filter", (Above, {"threshold": -1}), r"raised ValueError: threshold must not be negative"),
        ("process", (lambda v: v,), r"process takes a Beam DoFn or a KeyedProcessFunction"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_is_written(
    env: sage.LocalEnvironment, operator: str, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(env.from_collection([1]), operator)(*arguments)
