"""What a keyed function holds of its declared state: a handle for each, good while one key is processed.

Nothing here imports Beam; a handle is bound to the runner's cell of the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from sage.errors import SageError

__all__ = [
    "FoldHandle",
    "Handle",
    "ListHandle",
    "MapHandle",
    "SetHandle",
    "StateNotReady",
    "ValueHandle",
]

K = TypeVar("K")
T = TypeVar("T")


class StateNotReady(SageError, RuntimeError):
    """State was used where there is no key: outside of processing an element or a timer."""


class _Unbound:
    """Stands where a key's cell will be; whatever is asked of it is asked too early or too late."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise StateNotReady(
            f"state {self._name!r} is used where there is no key; "
            "use it in process_element, on_timer or on_processing_timer"
        )


class Handle:
    """The way to one declared state, for whichever key is being processed.

    Attributes:
        cell: the runner's cell of the key; set and taken away by the step that runs the function.
        unbound: what `cell` is while there is no key.
    """

    def __init__(self, name: str) -> None:
        self.unbound: Any = _Unbound(name)
        self.cell: Any = self.unbound

    def clear(self) -> None:
        """Forget what is held for this key."""
        self.cell.clear()


class ValueHandle(Handle, Generic[T]):
    """One value for each key."""

    def __init__(self, name: str, default: T | None) -> None:
        super().__init__(name)
        self._default = default

    def value(self) -> Any:
        """The value held, else the declared default."""
        stored = self.cell.read()
        return self._default if stored is None else stored

    def update(self, value: T) -> None:
        """Hold ``value``. None is as good as `clear`, since Beam's cell cannot tell them apart."""
        self.cell.write(value)


class ListHandle(Handle, Generic[T]):
    """Values added one by one. The order is not promised, as Beam's bag promises none."""

    def get(self) -> Iterable[T]:
        """All values held; may be read from the runner piece by piece."""
        return self.cell.read()

    def __iter__(self) -> Iterator[T]:
        return iter(self.get())

    def add(self, value: T) -> None:
        """Hold one more value; does not read the others."""
        self.cell.add(value)

    def add_all(self, values: Iterable[T]) -> None:
        """Hold more values."""
        for value in values:
            self.cell.add(value)

    def update(self, values: Iterable[T]) -> None:
        """Hold exactly these values."""
        values = list(values)
        self.cell.clear()
        self.add_all(values)


class SetHandle(Handle, Generic[T]):
    """Distinct values."""

    def __contains__(self, value: object) -> bool:
        return any(stored == value for stored in self.cell.read())

    def __iter__(self) -> Iterator[T]:
        return iter(self.cell.read())

    def add(self, value: T) -> None:
        """Hold ``value`` once."""
        self.cell.add(value)


class FoldHandle(Handle, Generic[T]):
    """Values folded into one as they are added."""

    def get(self) -> Any:
        """The result so far; for a reducing state that holds nothing, None."""
        return self.cell.read()

    def add(self, value: T) -> None:
        """Fold one more value in."""
        self.cell.add(value)


_ABSENT = object()


class MapHandle(Handle, Generic[K, T]):
    """A map for each key of the stream, read and written entry by entry.

    On a runner without such a cell it is one dict, read whole when it is first touched and written whole if it was
    changed. Entries come in no promised order.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._by_entry = False
        self._dict: dict[K, Any] | None = None
        self._changed = False

    def begin(self) -> None:
        """Forget the key before; called ahead of each element and timer, with the cell of its key."""
        self._by_entry = hasattr(self.cell, "put")
        self._dict, self._changed = None, False

    def commit(self) -> None:
        """Write back what was changed; called after each element and timer."""
        if self._changed:
            if self._dict:
                self.cell.write(self._dict)
            else:
                self.cell.clear()
            self._changed = False

    def _read(self) -> dict[K, Any]:
        if self._dict is None:
            self._dict = dict(self.cell.read() or {})
        return self._dict

    def _writable(self) -> dict[K, Any]:
        entries = self._read()
        self._changed = True
        return entries

    # What is held, which is not always what is shown.

    def _stored(self, key: Any) -> Any:
        return self.cell.get(key, _ABSENT) if self._by_entry else self._read().get(key, _ABSENT)

    def _hold(self, key: K, value: Any) -> None:
        if self._by_entry:
            self.cell.put(key, value)
        else:
            self._writable()[key] = value

    def _drop(self, key: Any) -> None:
        if self._by_entry:
            self.cell.remove(key)
        else:
            self._writable().pop(key, None)

    def _entries(self) -> Iterator[tuple[K, Any]]:
        return self.cell.items() if self._by_entry else iter(list(self._read().items()))

    # What is shown.

    def clear(self) -> None:
        if self._by_entry:
            self.cell.clear()
        else:
            self._writable().clear()

    def get(self, key: K, default: Any = None) -> Any:
        """The value under ``key``, else ``default``."""
        value = self._stored(key)
        return default if value is _ABSENT else value

    def __getitem__(self, key: K) -> T:
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: T) -> None:
        self._hold(key, value)

    def __delitem__(self, key: K) -> None:
        self[key]
        self._drop(key)

    def __contains__(self, key: object) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT  # type: ignore[arg-type]

    def __len__(self) -> int:
        """How many entries there are; looks at all of them."""
        return sum(1 for _ in self.items())

    def __bool__(self) -> bool:
        return next(iter(self.items()), None) is not None

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self.items())

    def items(self) -> Iterator[tuple[K, T]]:
        """All entries, one after another; the map may be changed meanwhile."""
        return self._entries()
