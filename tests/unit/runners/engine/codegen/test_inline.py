"""What a function is known to do without a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import combiners

from sage.runners.engine.codegen.inline import is_identity, makes_ordinary, paired_with
from sage.runners.engine.codegen.recognise import PlainCall, Shape


def documented(word: str) -> tuple[str, int]:
    """A pair."""
    return word, 1


def doubled(word: str) -> tuple[str, str]:
    return word, word


def turned(word: str) -> tuple[int, str]:
    return 1, word


def generated(word: str) -> Iterator[tuple[str, int]]:
    yield word, 1


async def awaited(word: str) -> tuple[str, int]:
    return word, 1


def kept(word: str) -> tuple[str, Callable[[], str]]:
    return word, lambda: word


def called(function: Callable[..., Any], *args: Any, shape: Shape = Shape.MAP, **kwargs: Any) -> PlainCall:
    return PlainCall(shape, function, args, kwargs, {}, stamps=False, checked=False)


def beams_own() -> Callable[[Any], Any]:
    """The function that Beam puts before the count of elements."""
    (code,) = (const for const in combiners.Count.PerElement.expand.__code__.co_consts if isinstance(const, CodeType))
    return type(documented)(code, {})


@pytest.mark.parametrize(
    ("function", "constant"),
    [(lambda word: (word, 1), 1), (lambda x: (x, None), None), (lambda x: (x, ("a", 1000)), ("a", 1000)),
     (documented, 1), (beams_own(), None)],
)  # fmt: skip
def test_a_pair_with_a_constant_is_known(function: Callable[..., Any], constant: object) -> None:
    assert paired_with(called(function)) == (constant,)


OFFSET = 3


@pytest.mark.parametrize(
    "function",
    [doubled, turned, generated, awaited, kept, str.split, lambda x: x, lambda x: (x, 1, 2), lambda x: [x, 1],
     lambda x: (x, OFFSET), lambda *x: (x, 1), lambda **x: (x, 1), lambda x, y=2: (x, 1), lambda x, *, y=2: (x, 1)],
)  # fmt: skip
def test_everything_else_is_called(function: Callable[..., Any]) -> None:
    assert paired_with(called(function)) is None


def unchanged(word: str) -> str:
    """The same."""
    return word


def first(word: str, *more: str) -> str:
    return word


@pytest.mark.parametrize("function", [unchanged, lambda x: x])
def test_what_gives_back_its_argument_is_known(function: Callable[..., Any]) -> None:
    assert is_identity(called(function))
    assert not is_identity(called(function, shape=Shape.FILTER))


@pytest.mark.parametrize(
    "function", [documented, generated, awaited, first, str, lambda x: (yield x), lambda x: -x, lambda x: [x],
                 lambda *x: x, lambda x, y=2: y, lambda x: None, lambda x: lambda: x],
)  # fmt: skip
def test_what_gives_anything_else_is_not(function: Callable[..., Any]) -> None:
    assert not is_identity(called(function))


def test_a_function_that_gets_more_than_the_element_is_called() -> None:
    assert paired_with(called(documented, 2)) is None
    assert paired_with(called(documented, other=2)) is None
    assert paired_with(called(documented, shape=Shape.FLAT)) is None


def paired(x: int) -> tuple[int, int]:
    return x % 2, x


def listed(x: int) -> Any:
    if x > 1:
        return [x]
    return {"x": x}


def nothing(x: int) -> None:
    pass


def pairs(x: int) -> Iterator[tuple[int, int]]:
    for y in range(x):
        yield x, y
    yield (x, None)


class Pairs:
    def process(self, x: int) -> Iterator[tuple[int, int]]:
        yield x, 1


@pytest.mark.parametrize(
    ("function", "shape"),
    [(paired, Shape.MAP), (listed, Shape.MAP), (nothing, Shape.MAP), (lambda x: (x, 1), Shape.MAP),
     (lambda x, *more, **named: f"{x}!{x}", Shape.MAP), (pairs, Shape.FLAT), (Pairs().process, Shape.FLAT)],
)  # fmt: skip
def test_what_makes_its_outputs_itself_makes_ordinary_elements(function: Callable[..., Any], shape: Shape) -> None:
    assert makes_ordinary(called(function, shape=shape))


def chosen(x: int) -> Any:
    return (x, 1) if x else TaggedOutput("none", x)


def first_or(x: Any) -> Any:
    return x or (x, 1)


def some(x: int) -> Iterator[Any]:
    yield x, 1
    yield TaggedOutput("more", x)


def delegated(x: int) -> Iterator[Any]:
    yield x, 1
    yield from [TaggedOutput("more", x)]


def returned(x: int) -> Any:
    try:
        return (x, 1)
    finally:
        if x:
            return TaggedOutput("more", x)  # noqa: B012


@pytest.mark.parametrize(
    ("function", "shape"),
    [(chosen, Shape.MAP), (first_or, Shape.MAP), (returned, Shape.MAP), (str, Shape.MAP), (lambda x: x, Shape.MAP),
     (lambda x: [x][0], Shape.MAP), (pairs, Shape.MAP), (awaited, Shape.MAP), (paired, Shape.FILTER),
     (listed, Shape.FLAT),
     (some, Shape.FLAT), (delegated, Shape.FLAT), (lambda x: (yield), Shape.MAP)],
)  # fmt: skip
def test_outputs_of_other_functions_are_looked_at(function: Callable[..., Any], shape: Shape) -> None:
    assert not makes_ordinary(called(function, shape=shape))
