"""Blocks come out of their bytes as they went in: every shape of columns, and values that pickle refuses."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from apache_beam import coders
from apache_beam.transforms.window import BoundedWindow, GlobalWindow, IntervalWindow
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming

from sage.runners.engine.core.blocks import GLOBAL_WINDOWS, NO_FIRING, Block
from sage.runners.engine.serde.wire import decode_block, encode_block

GENERAL = coders.FastPrimitivesCoder()
VALUES = [1, "a", None, (1.0, [b"x"])]


class Own(BoundedWindow):
    """A window of a user's."""

    def __init__(self, end: Any, name: str) -> None:
        super().__init__(end)
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


STAMPS = [MIN_TIMESTAMP, [Timestamp(1), Timestamp(micros=-5), Timestamp(1), MAX_TIMESTAMP]]
WINDOWS = [
    GLOBAL_WINDOWS,
    (IntervalWindow(0, 10), IntervalWindow(5, 15)),
    [(IntervalWindow(0, 10),), (IntervalWindow(0, 10),), (IntervalWindow(-5, 15), IntervalWindow(5, 15)), ()],
    [(GlobalWindow(),), (IntervalWindow(0, 10),), (Own(Timestamp(3), "a"), IntervalWindow(0, 1)), (Own(4, "b"),)],
]
PANES = [NO_FIRING, [PaneInfo(True, False, PaneInfoTiming.EARLY, number, -1) for number in (0, 1, 1, 2)]]


@pytest.mark.parametrize(("stamps", "windows", "panes"), list(itertools.product(STAMPS, WINDOWS, PANES)))
def test_every_shape_of_columns_comes_out_as_it_went_in(stamps: Any, windows: Any, panes: Any) -> None:
    block = Block(VALUES, stamps, windows, panes)
    data = encode_block(block, GENERAL)
    for given in (data, memoryview(data)):
        found = decode_block(given, GENERAL)
        assert (found.values, found.timestamps, found.windows, found.panes) == (VALUES, stamps, windows, panes)
        assert list(map(type, found.values)) == list(map(type, VALUES))


def test_timestamps_finer_than_a_microsecond_lose_nothing() -> None:
    try:
        fine: Any = Timestamp(1, 123456789, precision=9)  # type: ignore[call-arg]
    except TypeError:
        pytest.skip("this Beam has microseconds only")
    for stamps in (fine, [fine, Timestamp(2)]):
        found = decode_block(encode_block(Block([1, 2], stamps), GENERAL), GENERAL).timestamps
        assert found == stamps


def test_no_values_and_empty_columns() -> None:
    assert len(decode_block(encode_block(Block([], [], [], []), GENERAL), GENERAL)) == 0


def test_what_pickle_refuses_goes_by_cloudpickle() -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    found = decode_block(encode_block(Block([Local(1), Local(2)]), GENERAL), GENERAL)
    assert [value.value for value in found.values] == [1, 2]
    assert type(found.values[0]) is Local


def test_a_class_that_came_with_a_function_is_that_class_in_values() -> None:
    from apache_beam.internal import cloudpickle_pickler

    class Local:
        pass

    came = cloudpickle_pickler.loads(cloudpickle_pickler.dumps(Local))
    (value,) = decode_block(encode_block(Block([came()]), GENERAL), GENERAL).values
    assert type(value) is came


class Numbered:
    """What no pickler takes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class NumberedCoder(coders.Coder):
    def encode(self, value: Any) -> bytes:
        return b"%d" % value.number

    def decode(self, encoded: bytes) -> Any:
        return Numbered(int(encoded))


def test_what_no_pickler_takes_goes_by_its_coder() -> None:
    stamps = [Timestamp(1), Timestamp(2)]
    found = decode_block(encode_block(Block([Numbered(3), Numbered(4)], stamps), NumberedCoder()), NumberedCoder())
    assert [value.number for value in found.values] == [3, 4]
    assert found.timestamps == stamps
