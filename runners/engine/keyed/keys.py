"""Key identity: two keys are one key when their encoded bytes are equal.

``1``, ``True`` and ``1.0`` are equal in Python and three keys in Beam. Encoding every key costs a microsecond, so
keys of a few exact types, and tuples of them, stand for themselves under coders known to keep them apart.
"""

from __future__ import annotations

import dataclasses
import enum
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apache_beam import coders

_SELF = frozenset({int, str, bytes, type(None)})
_SCALARS = _SELF | {bool, float}
_GENERAL = frozenset({coders.FastPrimitivesCoder, type(coders.FastPrimitivesCoder().as_deterministic_coder("probe"))})
_NARROW = frozenset({coders.VarIntCoder, coders.StrUtf8Coder, coders.BytesCoder})


class KeyIds:
    """Turns keys into hashable identities.

    An identity is the key itself for an exact ``int``, ``str``, ``bytes`` or ``None`` and for a tuple of these, else
    ``(..., encoded bytes)``. No two kinds collide, for the ellipsis is in no key that stands for itself. Whether an
    identity is a key can be seen by its class, except for tuples.
    """

    def __init__(self, coder: Any) -> None:
        impl = coder.get_impl()
        self._encode, self._decode = impl.encode, impl.decode
        self._plain = _SELF if _is_faithful(coder) else frozenset()
        # A coder made for some types gives one encoding to what is equal in them: True is 1 to a coder of integers.
        self._narrow = type(coder) not in _GENERAL and bool(self._plain)
        self._canonical = _canonical_form(coder)
        self.direct = frozenset() if type(coder) is coders.TupleCoder else self._plain

    def of(self, key: Any) -> Any:
        """The identity of a key."""
        plain = self._plain
        if key.__class__ is tuple and plain:
            for part in key:
                if part.__class__ not in plain:
                    break
            else:
                return key
        elif key.__class__ in plain:
            return key
        data = self._encode(key)
        if self._narrow:
            decoded = self._decode(data)
            if decoded.__class__ in plain or (decoded.__class__ is tuple and {*map(type, decoded)} <= plain):
                return decoded
        return (..., data)

    def of_all(self, keys: Sequence[Any]) -> Sequence[Any]:
        """The identities of keys, in their order."""
        return keys if {*map(type, keys)} <= self.direct else list(map(self.of, keys))

    def key_of(self, identity: Any) -> Any:
        """A key with this identity."""
        if identity.__class__ is tuple and identity and identity[0] is ...:
            return self._decode(identity[1])
        return identity

    def keys_of(self, identities: Sequence[Any]) -> list[Any]:
        """Keys with these identities, in their order."""
        return list(identities) if {*map(type, identities)} <= _SELF else list(map(self.key_of, identities))

    def stored(self, key: Any) -> bytes:
        """The key's bytes for storage, the same in every process and with every version of Beam and Python."""
        return bytes(self._encode(key if key.__class__ in _SELF else self._canonical(key)))

    def group(self, key: Any, groups: int) -> int:
        """The key group of a key, the same wherever its stored bytes are."""
        return zlib.crc32(self._encode(key if key.__class__ in _SELF else self._canonical(key))) % groups

    def groups(self, keys: Sequence[Any], groups: int) -> Iterator[tuple[Any, int]]:
        """Each key with its key group, for keys of types in ``direct``."""
        return ((key, sum % groups) for key, sum in zip(keys, map(zlib.crc32, map(self._encode, keys)), strict=True))


def _is_faithful(coder: Any) -> bool:
    if type(coder) is coders.TupleCoder:
        return all(map(_is_faithful, coder.coders()))
    return type(coder) in _GENERAL or type(coder) in _NARROW


def _canonical_form(coder: Any) -> Callable[[Any], Any]:
    """A function that puts keys of special types into a form whose bytes under the coder depend on nothing else.

    Beam's general coder encodes a named tuple, a dataclass or an enum with its pickled class, whose bytes differ
    between versions, and for a class that was itself unpickled between processes. Coders made for a type have no
    such freedom.
    """
    if type(coder) is coders.TupleCoder:
        parts = [_canonical_form(part) for part in coder.coders()]
        return lambda key: tuple(form(value) for form, value in zip(parts, key, strict=True))
    return _canonical if type(coder) in _GENERAL else lambda key: key


def _canonical(key: Any) -> Any:
    cls = key.__class__
    if cls in _SCALARS:
        return key
    if cls is tuple or cls is list:
        return cls(map(_canonical, key))
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(key, enum.Enum):
        return name, key.name
    if dataclasses.is_dataclass(key):
        return name, *(_canonical(getattr(key, field.name)) for field in dataclasses.fields(key) if field.init)
    if isinstance(key, tuple) and hasattr(cls, "_fields"):
        return name, *map(_canonical, key)
    return key


def key_coder(coder: Any) -> Any:
    """The coder of the key in a keyed collection; what has no key-value coder gets Beam's general one."""
    return coder.key_coder() if coder.is_kv_coder() else coders.FastPrimitivesCoder()


def value_coder(coder: Any) -> Any:
    """The coder of the value in a keyed collection."""
    return coder.value_coder() if coder.is_kv_coder() else coders.FastPrimitivesCoder()
