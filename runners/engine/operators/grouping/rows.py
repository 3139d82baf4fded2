"""Rows by key as bytes that mean the same in another process: what groupings give to snapshots."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sage.runners.engine.core.key_groups import KEY_GROUPS
from sage.runners.engine.core.keys import KeyIds, key_coder
from sage.runners.engine.core.spec import Collection
from sage.runners.engine.serde.values import Codec


class KeyedRows:
    """Turns rows of (identity, key, values) into bytes and back.

    A key whose identity is its encoded bytes goes with them, and gets its identity anew where it is read: those bytes
    may differ between processes. Keys and values go as `Codec` has it.

    Args:
        source: the keyed collection that the keys come from.
        values: the coder of the values.
    """

    def __init__(self, source: Collection, values: Any) -> None:
        self.ids = KeyIds(key_coder(source.coder))
        self._codec = Codec(key_coder(source.coder), values)

    def pack(self, identities: list[Any], key_of: Callable[[Any], Any], groups: list[list[Any]]) -> bytes:
        """The bytes of rows."""
        own = any(identity.__class__ is tuple for identity in identities)
        return self._codec.pack(identities, list(map(key_of, identities)) if own else None, groups)

    def pack_keys(self, keys: dict[Any, Any]) -> bytes:
        """The bytes of keys by identity."""
        return self.pack(list(keys), keys.__getitem__, [[]] * len(keys))

    def unpack(self, data: bytes, mine: Callable[[int], bool] | None) -> Iterator[tuple[int, Any, Any, list[Any]]]:
        """Each row that is ours as (its number, identity, key, values).

        ``mine`` says which key groups are ours; None if all are.
        """
        identities, keys, groups = self._codec.unpack(data)
        for number, identity in enumerate(identities):
            special = identity.__class__ is tuple
            key = keys[number] if special and keys is not None else identity
            if mine is None or mine(self.ids.group(key, KEY_GROUPS)):
                yield number, self.ids.of(key) if special else identity, key, groups[number]


def pack_parts(*parts: Any) -> bytes:
    """The bytes of plain values."""
    return pickle.dumps(parts, 5)


def unpack_parts(chunks: Iterable[bytes]) -> Iterator[Any]:
    """What `pack_parts` was given, for each chunk."""
    return map(pickle.loads, chunks)
