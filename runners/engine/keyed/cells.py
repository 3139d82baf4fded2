"""State cells: Beam's kinds of user state over values held in memory."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.utils.timestamp import Timestamp


class ValueCell(userstate.ReadModifyWriteRuntimeState):
    """One value, or None."""

    def __init__(self, spec: Any) -> None:
        self._value: Any = None

    def read(self) -> Any:
        return self._value

    def write(self, value: Any) -> None:
        self._value = value

    def clear(self) -> None:
        self._value = None

    def commit(self) -> None:
        """Writes are in place already."""


class Values(list):  # type: ignore[type-arg]
    """What a bag holds: a list that is an iterator too, for Beam leaves open which, and users rely on either."""

    def __next__(self) -> Any:
        if not hasattr(self, "_rest"):
            self._rest = iter(self)
        return next(self._rest)


class BagCell(userstate.BagRuntimeState):
    """Values in order of arrival."""

    def __init__(self, spec: Any) -> None:
        self._values: list[Any] = []

    def read(self) -> Iterable[Any]:
        return Values(self._values)

    def add(self, value: Any) -> None:
        self._values.append(value)

    def clear(self) -> None:
        self._values = []

    def commit(self) -> None:
        """Writes are in place already."""


class SetCell(userstate.SetRuntimeState):
    """Distinct values; two are one when their encoded bytes are equal."""

    def __init__(self, spec: Any) -> None:
        self._encode = spec.coder.get_impl().encode
        self._values: dict[bytes, Any] = {}

    def read(self) -> set[Any]:
        return set(self._values.values())

    def add(self, value: Any) -> None:
        self._values.setdefault(self._encode(value), value)

    def clear(self) -> None:
        self._values = {}

    def commit(self) -> None:
        """Writes are in place already."""


class CombiningCell(userstate.CombiningValueRuntimeState):
    """One accumulator of a CombineFn."""

    def __init__(self, spec: Any) -> None:
        self._fn = spec.combine_fn
        self._empty = True
        self._accumulator: Any = None

    def read(self) -> Any:
        accumulator = self._fn.create_accumulator() if self._empty else self._accumulator
        return self._fn.extract_output(accumulator)

    def add(self, value: Any) -> None:
        if self._empty:
            self._accumulator = self._fn.create_accumulator()
            self._empty = False
        self._accumulator = self._fn.add_input(self._accumulator, value)

    def clear(self) -> None:
        self._empty = True
        self._accumulator = None

    def commit(self) -> None:
        """Writes are in place already."""


class OrderedListCell(userstate.OrderedListRuntimeState):
    """Timestamped values, sorted by timestamp and then by arrival."""

    def __init__(self, spec: Any) -> None:
        self._stamps: list[int] = []
        self._values: list[Any] = []

    def add(self, value: tuple[Timestamp, Any]) -> None:
        stamp, payload = value
        micros = Timestamp.of(stamp).micros
        if not -(1 << 63) <= micros < (1 << 63) - 1:
            raise ValueError(f"key value {micros} is out of range")
        at = bisect.bisect_right(self._stamps, micros)
        self._stamps.insert(at, micros)
        self._values.insert(at, payload)

    def read(self) -> Iterable[tuple[Timestamp, Any]]:
        return [(Timestamp(micros=s), v) for s, v in zip(self._stamps, self._values, strict=True)]

    def _range(self, low: Timestamp, high: Timestamp) -> slice:
        return slice(
            bisect.bisect_left(self._stamps, Timestamp.of(low).micros),
            bisect.bisect_left(self._stamps, Timestamp.of(high).micros),
        )

    def read_range(
        self, min_time_stamp: Timestamp, limit_time_stamp: Timestamp
    ) -> Iterable[tuple[Timestamp, Any]]:
        part = self._range(min_time_stamp, limit_time_stamp)
        return [(Timestamp(micros=s), v) for s, v in zip(self._stamps[part], self._values[part], strict=True)]

    def clear(self) -> None:
        self._stamps, self._values = [], []

    def clear_range(self, min_time_stamp: Timestamp, limit_time_stamp: Timestamp) -> None:
        part = self._range(min_time_stamp, limit_time_stamp)
        del self._stamps[part]
        del self._values[part]

    def commit(self) -> None:
        """Writes are in place already."""


CELLS: dict[type, type] = {
    userstate.ReadModifyWriteStateSpec: ValueCell,
    userstate.BagStateSpec: BagCell,
    userstate.SetStateSpec: SetCell,
    userstate.CombiningValueStateSpec: CombiningCell,
    userstate.OrderedListStateSpec: OrderedListCell,
}


def make_cell(spec: Any) -> Any:
    """An empty cell for a state spec. A combining spec's function is used as it is: set up by the caller."""
    return CELLS[type(spec)](spec)
