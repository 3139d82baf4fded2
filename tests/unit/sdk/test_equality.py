"""Canonical keys: one form for all values that are equal, of whatever types."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import pathlib
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sage.equality import CanonicalKey, canonical, has_own_coder
from sage.errors import ConfigError

UTC = datetime.timezone.utc
CET = datetime.timezone(datetime.timedelta(hours=1))
NOON = datetime.datetime(2024, 5, 1, 12, 0, 0, 250)


class Level(enum.IntEnum):
    ONE = 1


class Name(str, enum.Enum):
    A = "a"


class Color(enum.Enum):
    RED = 1
    CRIMSON = 2


class Text(str):
    """A text of another class."""


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Other:
    x: Any
    y: Any = 0


EQUAL: list[list[Any]] = [
    [1, 1.0, True, Decimal(1), Decimal("1.00"), Fraction(1), 1 + 0j, Level.ONE],
    [1, np.int64(1), np.uint8(1), np.float32(1), np.True_, np.float64(1), np.longdouble(1), np.complex64(1)],
    [0, -0.0, 0.0, False, Decimal("-0"), np.float64(-0.0), Fraction(0)],
    [2.5, Decimal("2.50"), Fraction(5, 2), np.float16(2.5)],
    [0.1, np.float64(0.1)],
    [Decimal("0.1"), Fraction(1, 10)],
    [float(np.float32(0.1)), np.float32(0.1)],
    [10**30, Decimal(10**30), Decimal("1E+30")],
    [2.0**70, 2**70],
    [float("inf"), Decimal("Infinity"), np.inf],
    [float("nan"), Decimal("NaN"), Decimal("sNaN"), np.float32("nan"), np.longdouble("nan")],
    [2 + 1j, np.complex128(2 + 1j)],
    ["a", Text("a"), np.str_("a"), Name.A],
    [b"a", bytearray(b"a"), memoryview(b"a"), np.bytes_(b"a")],
    [NOON, NOON.replace(fold=1), pd.Timestamp(NOON), np.datetime64(NOON), np.datetime64(NOON, "ns")],
    [NOON.replace(tzinfo=UTC), NOON.replace(hour=13, tzinfo=CET), pd.Timestamp(NOON.replace(tzinfo=UTC))],
    [pd.Timestamp(NOON) + pd.Timedelta(1, "ns"), np.datetime64("2024-05-01T12:00:00.000250001")],
    [datetime.datetime(1960, 1, 1), np.datetime64("1960"), np.datetime64("1960-01-01")],
    [NOON.date()],
    [pd.NaT, np.datetime64("NaT")],
    [np.timedelta64("NaT")],
    [datetime.timedelta(milliseconds=-1), pd.Timedelta(-1, "ms"), np.timedelta64(-1000, "us")],
    [np.timedelta64(-1, "ns"), pd.Timedelta(-1, "ns")],
    [datetime.time(12, tzinfo=UTC), datetime.time(13, tzinfo=CET)],
    [datetime.time(12)],
    [uuid.UUID(int=5), uuid.UUID(int=5)],
    [None, pd.NA],
    [("nan",)],
    [("\0", "nan")],
    [("\0", "tuple", ())],
    [(1, "a"), (1.0, Text("a")), Pair(np.int64(1), "a")],
    [(1, (None, 2)), (True, (None, Decimal(2)))],
    [[1, "a"], [1.0, "a"]],
    [frozenset({1, "a", (2,)}), {"a", 1.0, (2.0,)}],
    [{"a": 1, 2: None}, {2.0: None, "a": True}],
    [Color.RED],
    [Color.CRIMSON],
    [Point(1), Point(1.0)],
    [Other(1)],
    [beam.Row(a=1), beam.Row(a=np.int64(1))],
    [pathlib.Path("a/b"), pathlib.PurePosixPath("a/b")],
    [Timestamp(5), datetime.datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)],
]


def coded(value: Any) -> bytes:
    return bytes(CanonicalKey.from_type_hint(None, None).encode(canonical(value)))


@pytest.mark.parametrize("values", EQUAL, ids=[f"{type(v[0]).__name__}-{i}" for i, v in enumerate(EQUAL)])
def test_equal_values_of_all_types_have_one_form_and_its_bytes(values: list[Any]) -> None:
    assert [canonical(value) for value in values] == [canonical(values[0])] * len(values)
    assert len({coded(value) for value in values}) == 1
    for value in values:
        form = canonical(value)
        assert form is None or type(form) in (int, float, str, bytes, tuple)


def test_values_that_are_not_equal_have_different_forms() -> None:
    for some, others in itertools.combinations(EQUAL[1:], 2):
        assert coded(some[0]) != coded(others[0]), (some[0], others[0])


NUMBERS = st.one_of(st.integers(), st.floats(), st.decimals(), st.fractions(), st.booleans(), st.just(Level.ONE))
PARTS = st.recursive(
    st.one_of(NUMBERS, st.sampled_from(["", "\0", "nan", "tuple"]), st.binary(max_size=2)),
    lambda part: st.one_of(st.tuples(part), st.tuples(part, part), st.lists(part, max_size=2)),
    max_leaves=4,
)


@given(PARTS, PARTS)
def test_forms_are_equal_where_python_says_that_the_values_are(a: Any, b: Any) -> None:
    def has_nan(value: Any) -> bool:
        if isinstance(value, tuple | list):
            return any(map(has_nan, value))
        if isinstance(value, Decimal):
            return value.is_nan()
        return isinstance(value, float) and value != value

    if not has_nan(a) and not has_nan(b):
        assert (coded(a) == coded(b)) == (a == b)


class Strange:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


class StrangeText(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "value",
    [Strange(), StrangeText("a"), object(), np.array([1]), np.timedelta64(1, "Y"), np.timedelta64(1), (1, object())],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_known_equality_is_refused_by_its_type(value: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be a key"):
        canonical(value)


class Id:
    """A key type with a coder of its own."""


class IdCoder(beam.coders.Coder):  # type: ignore[misc]
    def is_deterministic(self) -> bool:
        return True


def test_a_coder_of_the_users_is_told_from_beams() -> None:
    beam.coders.registry.register_coder(Id, IdCoder)
    assert all(map(has_own_coder, (Id, beam.typehints.Tuple[int, Id])))
    assert not any(map(has_own_coder, (int, Any, Point, Decimal, beam.typehints.Any, beam.typehints.Tuple[int, str])))
