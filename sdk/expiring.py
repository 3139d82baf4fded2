"""State with a time to live: handles that put the instant of writing beside each value, and show none that is past it.

Because the instant is in the value, this means the same on every runner. An expired value is cleared when it is read;
Sage's engine also clears it when nobody reads. Nothing here imports Beam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sage import runtime
from sage.handles import _ABSENT, FoldHandle, Handle, ListHandle, MapHandle, SetHandle, ValueHandle

if TYPE_CHECKING:
    from sage.keyed import KeyedContext

K = TypeVar("K")
T = TypeVar("T")


class Lifetime:
    """The time to live of one state, and what time it is.

    Args:
        ms: how long a value lives after it was written (milliseconds).
        context: tells the event time of the element or timer at hand; None for the runner's processing time.
    """

    def __init__(self, ms: int, context: KeyedContext | None) -> None:
        self.ms = ms
        self._context = context

    def now(self) -> int:
        """Milliseconds since the epoch."""
        if self._context is not None:
            return int(self._context.timestamp.micros) // 1000
        return int(runtime.now() * 1000)

    def over(self, instant: int) -> bool:
        """Whether what was written at an instant (ms) is to be seen no more."""
        return self.now() - instant >= self.ms


class Expiring(Handle):
    """A handle that knows how long its values live."""

    lifetime: Lifetime


class ExpiringValueHandle(ValueHandle[T], Expiring, Generic[T]):
    """One value, for a time."""

    def value(self) -> Any:
        stored = self.cell.read()
        if stored is not None:
            instant, value = stored
            if not self.lifetime.over(instant):
                return value
            self.cell.clear()
        return self._default

    def update(self, value: T) -> None:
        if value is None:
            self.cell.clear()
        else:
            self.cell.write((self.lifetime.now(), value))


class ExpiringListHandle(ListHandle[T], Expiring, Generic[T]):
    """Values, each for a time of its own."""

    def get(self) -> Iterable[T]:
        stored = list(self.cell.read())
        living = [pair for pair in stored if not self.lifetime.over(pair[0])]
        if len(living) < len(stored):
            self.cell.clear()
            for pair in living:
                self.cell.add(pair)
        return [value for _, value in living]

    def add(self, value: T) -> None:
        self.cell.add((self.lifetime.now(), value))

    def add_all(self, values: Iterable[T]) -> None:
        for value in values:
            self.add(value)


class ExpiringMapHandle(MapHandle[K, T], Expiring, Generic[K, T]):
    """Entries, each for a time of its own."""

    def _stored(self, key: Any) -> Any:
        stored = super()._stored(key)
        if stored is _ABSENT:
            return stored
        instant, value = stored
        if not self.lifetime.over(instant):
            return value
        self._drop(key)
        return _ABSENT

    def _hold(self, key: K, value: Any) -> None:
        super()._hold(key, (self.lifetime.now(), value))

    def _entries(self) -> Iterator[tuple[K, Any]]:
        for key, (instant, value) in super()._entries():
            if self.lifetime.over(instant):
                self._drop(key)
            else:
                yield key, value


class ExpiringSetHandle(SetHandle[T], ExpiringMapHandle[T, None], Generic[T]):
    """Distinct values, each for a time of its own that begins anew when it is added again."""

    def __contains__(self, value: object) -> bool:
        return self._stored(value) is not _ABSENT

    def __iter__(self) -> Iterator[T]:
        return (value for value, _ in self._entries())

    def add(self, value: T) -> None:
        self._hold(value, None)

    def clear(self) -> None:
        ExpiringMapHandle.clear(self)


class ExpiringFoldHandle(FoldHandle[T], Expiring, Generic[T]):
    """Values folded into one, which lives for a time after the last was added."""

    def get(self) -> Any:
        instant, result = self.cell.read()
        if self.lifetime.over(instant):
            self.cell.clear()
            _, result = self.cell.read()
        return result

    def add(self, value: T) -> None:
        self.get()  # what is past its time is no part of the result
        self.cell.add((self.lifetime.now(), value))
