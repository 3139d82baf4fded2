"""Which worker gets which rows; a key's group, pinned: state that is stored by group must be found again."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from apache_beam import coders
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.window import GlobalWindows, IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.key_groups import KEY_GROUPS, worker_of
from sage.runners.engine.core.keys import KeyIds
from sage.runners.engine.runtime.exchange import Partitioner, Route

GENERAL = coders.FastPrimitivesCoder().as_deterministic_coder("test")


class Point(NamedTuple):
    x: int
    name: str


@dataclasses.dataclass(frozen=True)
class Place:
    x: int
    name: str


class Colour(enum.Enum):
    RED = 1


for cls in (Point, Place, Colour):
    cls.__module__ = "pinned"  # the name of a class is part of its keys; that of this module depends on who runs it

PINNED: list[tuple[Any, int]] = [
    (1, 40), (0, 62), (-1, 29), (True, 32), (False, 54), (1.0, 32), (0.0, 40), (-0.0, 114), ('a', 53), ('', 20),
    (b'a', 114), (b'', 55), (None, 13), ((), 121), ((1,), 32), ((1, 'a'), 73), ((True, 1.0), 117),
    (('a', (None,)), 116), ([1, 2], 79), (Point(x=1, name='a'), 85), (Place(x=1, name='a'), 91),
    ((Point(x=1, name='a'), Place(x=2, name='b')), 17), (Colour.RED, 123),
]  # fmt: skip


@pytest.mark.parametrize(("key", "group"), PINNED, ids=repr)
def test_the_group_of_a_key_is_the_same_everywhere_and_for_ever(key: Any, group: int) -> None:
    assert KeyIds(GENERAL).group(key, KEY_GROUPS) == group
    assert KeyIds(coders.FastPrimitivesCoder()).group(key, KEY_GROUPS) == group


def test_groups_of_many_keys_are_those_of_each() -> None:
    ids = KeyIds(GENERAL)
    for keys in (list(range(-50, 50)), ["", "a", "ß"], [b"", b"\0"]):
        assert list(ids.groups(keys, KEY_GROUPS)) == [(key, ids.group(key, KEY_GROUPS)) for key in keys]


def test_a_class_that_came_by_pickle_has_the_groups_of_the_one_it_is_a_copy_of() -> None:
    """Beam's bytes of such a key hold the pickled class, which differs from process to process."""
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from collections import namedtuple; from apache_beam import coders\n"
        "from sage.runners.engine.core.keys import KeyIds\n"
        "coder = coders.FastPrimitivesCoder().as_deterministic_coder('test')\n"
        "print(KeyIds(coder).group(namedtuple('Local', 'x y')(1, 'a'), 128))"
    )
    found = {subprocess.check_output([sys.executable, "-c", script], text=True).split()[-1] for _ in range(2)}
    assert len(found) == 1


def partitioner(mode: str, workers: int, key: Any = GENERAL) -> Partitioner:
    coder = coders.TupleCoder((key, coders.FastPrimitivesCoder()))
    collection = spec.Collection(spec.CollectionId("c"), "c", coder, Windowing(GlobalWindows()))
    return Partitioner(Route(1, 0, mode, collection), workers)


KEYS = [
    1, 0, -1, 2**70, True, False, 1.0, 0.0, -0.0, "a", "", b"a", b"", None, (), (1,), (1, "a"), (True, 1.0),
    ("a", (None,)), [1, 2], Point(1, "a"), Place(1, "a"), (Point(1, "a"), Place(2, "b")), Colour.RED,
]  # fmt: skip


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_row_goes_to_the_worker_of_its_key_with_its_columns(workers: int, mixed: bool) -> None:
    rows = [(key, number) for number, key in enumerate(KEYS * 3)]
    block = Block(rows)
    if mixed:
        block.timestamps = [Timestamp(micros=number) for _, number in rows]
        block.windows = [(IntervalWindow(number, number + 1),) for _, number in rows]
    ids = KeyIds(GENERAL)
    seen = []
    for worker, part in partitioner("key", workers).parts(block):
        for (key, number), stamp, windows, _ in part.rows():
            assert worker == worker_of(ids.group(key, KEY_GROUPS), workers)
            if mixed:
                assert (stamp.micros, windows[0].start.micros) == (number, number * 1_000_000)
            seen.append(number)
    assert sorted(seen) == list(range(len(rows)))


@pytest.mark.parametrize("keys", [list(range(1000)), [f"k{n}" for n in range(1000)], [(n, "a") for n in range(1000)]])
def test_one_key_goes_to_one_worker_whatever_came_with_it(keys: list[Any]) -> None:
    """Keys of one type have a way of their own; the same keys among others must find the same worker."""
    alone, among = partitioner("key", 3), partitioner("key", 3)
    first = {key: w for w, part in alone.parts(Block([(key, 0) for key in keys])) for key, _ in part.values}
    again = {key: w for w, part in alone.parts(Block([(key, 0) for key in keys])) for key, _ in part.values}
    second = {key: w for w, part in among.parts(Block([(key, 0) for key in [*keys, 2.5]])) for key, _ in part.values}
    assert first == again == {key: w for key, w in second.items() if key != 2.5}
    assert set(first.values()) == {0, 1, 2}


def test_a_narrow_coder_sends_equal_keys_of_two_types_to_one_worker() -> None:
    parts = list(partitioner("key", 2, coders.VarIntCoder()).parts(Block([(1, "int"), (True, "bool")])))
    assert len(parts) == 1


def test_spread_rows_are_even_and_keep_their_order() -> None:
    spread = partitioner("spread", 3)
    counts = [0, 0, 0]
    for size in (1, 1, 2, 5, 100, 3):
        for worker, part in spread.parts(Block(list(range(size)))):
            assert part.values == sorted(part.values)
            counts[worker] += len(part)
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == 112


def test_a_little_is_gathered_at_one_worker_and_more_is_spread() -> None:
    gather = partitioner("gather", 2)
    little = [gather.parts(Block(list(range(size)))) for size in (64, 256)]
    assert [[(worker, len(part)) for worker, part in parts] for parts in little] == [[(0, 64)], [(0, 256)]]
    assert [(worker, len(part)) for worker, part in gather.parts(Block(list(range(1000))))] == [(0, 500), (1, 500)]
    assert {worker for worker, _ in gather.parts(Block([1, 2]))} == {0, 1}, "it has been more than a little"


def test_a_few_large_elements_are_not_a_little() -> None:
    assert len(list(partitioner("gather", 2).parts(Block([b"x" * 1_000_000] * 2)))) == 2


def test_a_side_input_goes_to_all() -> None:
    block = Block([1])
    assert list(partitioner("all", 3).parts(block)) == [(0, block), (1, block), (2, block)]
