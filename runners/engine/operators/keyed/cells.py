"""State cells: Beam's kinds of user state, and SAGE's map, over values held in memory.

The contract of a `Cell`, on which snapshots and stores rest:

1. ``dump`` gives the content as plain values that ``load`` of an empty cell of the same kind takes back; None says that
   there is none, and a cell without content is as good as no cell.
2. The user's values in a content are reached by ``converted`` and by nothing else, so that they can be encoded.
3. Whoever hands a cell to user code sets ``touched`` first; a cell does not tell that it was written.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.utils.timestamp import Timestamp

Convert = Callable[[Any], Any]


class Cell:
    """What all kinds share.

    Attributes:
        touched: whether it may have changed since it was last written down.
        name: its state's; set by whoever keeps cells, as is ``identity``.
        identity: its key's.
        row: where a store keeps it; empty where there is no store.
    """

    touched = False
    name: str
    identity: Any
    row = b""

    def __init__(self, spec: Any) -> None:
        raise NotImplementedError(type(self))

    def dump(self) -> Any:
        """The content, or None."""
        raise NotImplementedError(type(self))

    @classmethod
    def dump_all(cls, cells: Iterable[Any]) -> list[Any]:
        """The contents of cells of this kind, in their order."""
        return [cell.dump() for cell in cells]

    def load(self, content: Any) -> None:
        """Takes a content."""
        raise NotImplementedError(type(self))

    @staticmethod
    def converted(content: Any, convert: Convert) -> Any:
        """A content with each of the user's values converted."""
        return [convert(value) for value in content]

    def expire(self, expired: Callable[[int], bool]) -> bool:
        """Drops what was last written at an instant (ms) that is ``expired``; whether that was anything.

        Called for states with a time to live only, whose values carry that instant.
        """
        return False

    def commit(self) -> None:
        """Writes are in place already."""


class ValueCell(Cell, userstate.ReadModifyWriteRuntimeState):
    """One value, or None."""

    def __init__(self, spec: Any) -> None:
        self._value: Any = None

    def read(self) -> Any:
        return self._value

    def write(self, value: Any) -> None:
        self._value = value

    def clear(self) -> None:
        self._value = None

    def dump(self) -> Any:
        return self._value

    @classmethod
    def dump_all(cls, cells: Iterable[Any]) -> list[Any]:
        return list(map(attrgetter("_value"), cells))

    def load(self, content: Any) -> None:
        self._value = content

    @staticmethod
    def converted(content: Any, convert: Convert) -> Any:
        return convert(content)

    def expire(self, expired: Callable[[int], bool]) -> bool:
        if self._value is None or not expired(self._value[0]):
            return False
        self._value = None
        return True


class Values(list):  # type: ignore[type-arg]
    """What a bag holds: a list that is an iterator too, for Beam leaves open which, and users rely on either."""

    def __next__(self) -> Any:
        if not hasattr(self, "_rest"):
            self._rest = iter(self)
        return next(self._rest)


class BagCell(Cell, userstate.BagRuntimeState):
    """Values in order of arrival."""

    def __init__(self, spec: Any) -> None:
        self._values: list[Any] | None = None

    def read(self) -> Iterable[Any]:
        return Values(self._values or ())

    def add(self, value: Any) -> None:
        if self._values is None:
            self._values = []
        self._values.append(value)

    def clear(self) -> None:
        self._values = None

    def dump(self) -> Any:
        return self._values

    @classmethod
    def dump_all(cls, cells: Iterable[Any]) -> list[Any]:
        return list(map(attrgetter("_values"), cells))

    def load(self, content: Any) -> None:
        self._values = content

    def expire(self, expired: Callable[[int], bool]) -> bool:
        values = self._values or []
        left = [value for value in values if not expired(value[0])]
        self._values = left or None
        return len(left) < len(values)


class SetCell(Cell, userstate.SetRuntimeState):
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

    def dump(self) -> Any:
        return list(self._values.values()) or None

    def load(self, content: Any) -> None:
        self._values = {self._encode(value): value for value in content}


class CombiningCell(Cell, userstate.CombiningValueRuntimeState):
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

    def dump(self) -> Any:
        return None if self._empty else (self._accumulator,)

    def load(self, content: Any) -> None:
        (self._accumulator,) = content
        self._empty = False

    @staticmethod
    def converted(content: Any, convert: Convert) -> Any:
        return (convert(content[0]),)

    def expire(self, expired: Callable[[int], bool]) -> bool:
        if self._empty or not expired(self._accumulator[0]):
            return False
        self.clear()
        return True


class OrderedListCell(Cell, userstate.OrderedListRuntimeState):
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

    def dump(self) -> Any:
        return (self._stamps, self._values) if self._stamps else None

    def load(self, content: Any) -> None:
        self._stamps, self._values = content

    @staticmethod
    def converted(content: Any, convert: Convert) -> Any:
        return content[0], [convert(value) for value in content[1]]
