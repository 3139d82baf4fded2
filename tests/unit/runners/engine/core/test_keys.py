"""Two keys are one key when their encoded bytes are equal."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from apache_beam import coders

from sage.runners.engine.core.keys import KeyIds

GENERAL = coders.FastPrimitivesCoder()
PAIR = coders.TupleCoder([coders.StrUtf8Coder(), coders.VarIntCoder()])


class Pair(NamedTuple):
    name: str
    number: int


MANY: list[Any] = [
    0, 1, True, False, 1.0, 0.0, -0.0, None, "", "1", b"", b"1", 2**70, [1], {"a": 1}, frozenset([1]),
    (), (1,), (True,), (1.0,), (b"1",), ((1,),), ((True,),), (None,), (..., b"1"), (2**70,),
    ("a", 1), ("a", True), ("a", 1.0), Pair("a", 1),
]  # fmt: skip


def test_under_the_general_coder_identities_are_as_the_encoded_bytes() -> None:
    ids = KeyIds(GENERAL)
    for a in MANY:
        for b in MANY:
            same = GENERAL.encode(a) == GENERAL.encode(b)
            assert (ids.of(a) == ids.of(b)) == same, (a, b)


@pytest.mark.parametrize("key", [5, "five", b"five", None, (), (5, "five", None), (b"five",)])
def test_plain_keys_and_tuples_of_them_stand_for_themselves(key: Any) -> None:
    assert KeyIds(GENERAL).of(key) is key


def test_what_is_equal_to_a_narrow_coder_is_one_key() -> None:
    assert KeyIds(coders.VarIntCoder()).of(True) == KeyIds(coders.VarIntCoder()).of(1) == 1
    ids = KeyIds(PAIR)
    assert ids.of(Pair("a", 1)) == ids.of(("a", True)) == ids.of(("a", 1)) == ("a", 1)


def test_a_part_under_the_general_coder_keeps_its_type() -> None:
    ids = KeyIds(coders.TupleCoder([GENERAL, coders.VarIntCoder()]))
    assert len({ids.of((part, 1)) for part in (1, True, 1.0)}) == 3


def test_only_keys_that_stand_for_themselves_whatever_is_in_them_are_direct() -> None:
    assert KeyIds(GENERAL).direct == {int, str, bytes, type(None)}
    assert KeyIds(PAIR).direct == frozenset()
    assert KeyIds(coders.FloatCoder()).direct == frozenset()


@pytest.mark.parametrize("coder", [GENERAL, coders.VarIntCoder()])
@pytest.mark.parametrize("keys", [[1, 2, 3], [1, True, 2], []])
def test_many_keys_have_the_identities_that_each_has(coder: Any, keys: list[Any]) -> None:
    ids = KeyIds(coder)
    assert [(type(i), i) for i in ids.of_all(keys)] == [(type(i), i) for i in map(ids.of, keys)]


def test_a_key_group_comes_from_the_bytes() -> None:
    ids = KeyIds(GENERAL)
    assert {ids.group(key, 128) for key in range(1000)} == set(range(128))
    assert ids.group("a", 128) == KeyIds(GENERAL).group("a", 128)
    assert ids.stored(("a", 1)) == GENERAL.encode(("a", 1))


@pytest.mark.parametrize(
    ("coder", "fit", "unfit"),
    [
        (coders.VarIntCoder(), [1, -(1 << 63), (1 << 63) - 1], [1 << 63, "a", None, b"a"]),
        (coders.StrUtf8Coder(), ["", "a", "\u00e9"], ["\udc00", 1, None]),
        (coders.BytesCoder(), [b"", b"a"], ["a", 1, None]),
        (PAIR, [("a", 1), ("\u00e9", -1)], [("a", 1 << 63), (1, "a"), ("a",), ("a", 1, 2), (None, 1), 5]),
        (GENERAL, [1, 1 << 70, "a", None, (), (1, "a"), (1,), (..., b"1")], ["\ud800", (1, "\ud800")]),
    ],
)
def test_a_new_key_that_its_coder_refuses_is_found(coder: Any, fit: list[Any], unfit: list[Any]) -> None:
    ids = KeyIds(coder)
    ids.check(fit)
    for key in unfit:
        for keys in ([key], [*fit, key]):
            with pytest.raises(TypeError, match="a key does not fit the coder"):
                ids.check(keys)
        with pytest.raises(TypeError, match="a key does not fit the coder"):
            ids.group(key, 128)
        with pytest.raises(TypeError, match="a key does not fit the coder"):
            list(ids.groups([*fit[:1], key], 128))
