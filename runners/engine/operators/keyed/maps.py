"""The map cell: entries that are read and written one by one, in memory or over a store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from sage.runners.engine.core.keys import KeyIds
from sage.runners.engine.operators.keyed.cells import Cell
from sage.statespecs import MapStateSpec

_ABSENT = object()


class MapEntries(Protocol):
    """The entries of one map in a store, as ``(key, value)`` pairs."""

    def get(self, key: Any) -> tuple[Any, Any] | None:
        """The entry of a key."""

    def scan(self) -> Iterator[tuple[Any, Any]]:
        """All entries."""


@functools.lru_cache(maxsize=256)
def ids_of(spec: MapStateSpec) -> KeyIds:
    """The identities of a map's keys."""
    return KeyIds(spec.key_coder)


class MapCell(Cell):
    """Entries by key identity.

    State: the entries at hand. Over a shelf these are the ones that were read or written, a removed one among them as
    absent, and they go before what the shelf holds; ``changed`` are those that the shelf does not know yet.
    """

    store: MapEntries | None = None

    def __init__(self, spec: Any) -> None:
        self._ids = ids_of(spec)
        self._entries: dict[Any, Any] = {}
        self.changed: set[Any] = set()
        self.cleared = False

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key."""
        identity = self._ids.of(key)
        value = self._entries.get(identity, self)
        if value is self:
            value = self._fetched(identity, key)
        return default if value is _ABSENT else value

    def _fetched(self, identity: Any, key: Any) -> Any:
        if self.store is None or self.cleared:
            return _ABSENT
        entry = self.store.get(key)
        value = self._entries[identity] = _ABSENT if entry is None else entry[1]
        return value

    def put(self, key: Any, value: Any) -> None:
        """Sets the value of a key."""
        identity = self._ids.of(key)
        if identity is key and identity not in self._entries:
            self._ids.check((key,))
        self._entries[identity] = value
        if self.store is not None:
            self.changed.add(identity)

    def remove(self, key: Any) -> None:
        """Forgets a key."""
        identity = self._ids.of(key)
        if self.store is None:
            self._entries.pop(identity, None)
        else:
            self._entries[identity] = _ABSENT
            self.changed.add(identity)

    def contains(self, key: Any) -> bool:
        """Whether there is a value for a key."""
        return self.get(key, _ABSENT) is not _ABSENT

    def keys(self) -> Iterator[Any]:
        """The keys; the map may be changed meanwhile, which shows or does not."""
        return (key for key, _ in self.items())

    def items(self) -> Iterator[tuple[Any, Any]]:
        """The entries; the map may be changed meanwhile, which shows or does not."""
        key_of = self._ids.key_of
        known = list(self._entries.items())
        if self.store is not None and not self.cleared:
            seen = dict(known)
            for key, value in self.store.scan():
                if self._ids.of(key) not in seen:
                    yield key, value
        yield from ((key_of(identity), value) for identity, value in known if value is not _ABSENT)

    def is_empty(self) -> bool:
        """Whether there is no entry."""
        return next(self.items(), None) is None

    def clear(self) -> None:
        """Forgets all entries."""
        self._entries = {}
        self.changed = set()
        self.cleared = True

    def dump(self) -> Any:
        return list(self.items()) or None

    def load(self, content: Any) -> None:
        for key, value in content:
            self.put(key, value)

    def take_changes(self) -> tuple[bool, list[tuple[Any, Any]], list[Any]]:
        """Whether all that the shelf holds goes first; the entries that it is to hold; the keys that it is to drop."""
        cleared, changed = self.cleared, self.changed
        self.cleared, self.changed = False, set()
        key_of, entries = self._ids.key_of, self._entries
        kept = [(key_of(identity), entries[identity]) for identity in changed if entries[identity] is not _ABSENT]
        gone = [key_of(identity) for identity in changed if entries[identity] is _ABSENT]
        return cleared, kept, gone

    def expire(self, expired: Callable[[int], bool]) -> bool:
        gone = [key for key, (stamp, _) in self.items() if expired(stamp)]
        for key in gone:
            self.remove(key)
        return bool(gone)

