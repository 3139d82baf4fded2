"""Config values against annotations."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import typing
from typing import Annotated, Any, Literal, NewType, Optional

import numpy as np
import pytest

import sage
from sage.annotations import fits, hints_of
from sage.errors import ConfigError

Metres = NewType("Metres", float)
Maybe = Optional[int]  # noqa: UP045 - as older code writes it


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Inner:
    size: int


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (2, int), (2, float), (True, bool), (True, int), ("a", str), (None, None), (None, Maybe),
        (2, int | None),
        ("a", int | str), ([1], list[int]), ([], list[int]), ((1, "a"), tuple[int, str]), ((1, 2, 3), tuple[int, ...]),
        ({"a": [1]}, dict[str, list[int]]), ({1}, set[int]), ("x", Literal["x", "y"]), (3.5, Metres), (3, Metres),
        (Inner(1), Inner), (Inner(1), Inner | None), (Colour.RED, Colour), (len, collections.abc.Callable[[str], int]),
        (object(), Any), ([1], collections.abc.Sequence[int]), (int, type), (1, Annotated[int, "metres"]),
        (np.int64(3), int), (np.float32(3), float), (np.bool_(True), bool), (iter([]), collections.abc.Iterator[int]),
        ([1, "a"], typing.TypeVar("T")),
    ],
)  # fmt: skip
def test_what_fits(value, annotation):
    assert fits(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("two", int), (2.5, int), ("2", float), (1, bool), ("true", bool), (None, int), ("a", Maybe),
        (2.5, int | str), ("ab", list[str]), ([1, "a"], list[int]), ((1, 2), tuple[int, str]), ((1,), tuple[int, str]),
        ({"a": [1, "b"]}, dict[str, list[int]]), ({1: "a"}, dict[str, str]), ("z", Literal["x", "y"]),
        (1, Literal[True]),
        ({"size": 1}, Inner), ("red", Colour), (3, collections.abc.Callable[[str], int]), ("far", Metres),
        (np.float64(3.0), int), (["a"], collections.abc.Sequence[int]), ("a", Annotated[int, "metres"]),
    ],
)  # fmt: skip
def test_what_does_not_fit(value, annotation):
    assert not fits(value, annotation)


def test_annotations_that_name_something_unknown_are_left_out():
    def function(a: int, b: Unknown, c=3, d: str = None):  # noqa: F821, RUF013
        """Takes four."""

    assert hints_of(function) == {"a": int, "d": str | None}
    assert hints_of(Inner) == {"size": int}
    assert hints_of(print) in ({}, hints_of(print))


def scaled(n: int, factor: int, names: list[str] | None = None) -> int:
    return n * factor


class Scale(sage.MapFunction):
    def __init__(self, factor: int, mode: Literal["up", "down"] = "up"):
        self.factor = factor

    def map(self, value):
        return value * self.factor


@pytest.mark.parametrize(
    ("function", "config", "told"),
    [
        (scaled, {"factor": "two"}, "config key 'factor' must be int, not 'two' (str)"),
        (scaled, {"factor": 2, "names": "ab"}, "config key 'names' must be list[str] | None, not 'ab' (str)"),
        (Scale, {"factor": "two"}, "config key 'factor' must be int, not 'two' (str)"),
        (Scale, {"factor": 2, "mode": "off"}, "config key 'mode' must be Literal['up', 'down'], not 'off' (str)"),
    ],
)
def test_a_value_of_another_type_is_refused_by_key(function, config, told):
    stream = sage.LocalEnvironment("job").from_collection([1, 2])
    with pytest.raises(ConfigError) as caught:
        stream.map(function, config=config)
    assert told in str(caught.value)


def test_values_that_fit_reach_the_function(capsys):
    env = sage.LocalEnvironment("job")
    numbers = env.from_collection([1, 2])
    numbers.map(scaled, config={"factor": 2, "names": None}).sink(print)
    numbers.map(Scale, config={"factor": 10}).sink(print)
    result = env.execute()

    assert sorted(capsys.readouterr().out.split()) == ["10", "2", "20", "4"]
    assert repr(result) == "<JobResult of 'job': DONE>"
    assert result.monitoring_metrics().query()["counters"] == result.metrics().query()["counters"] == []
