"""Key identity: two keys are one key when their encoded bytes are equal.

``1``, ``True`` and ``1.0`` are equal in Python and three keys in Beam. Encoding every key costs a microsecond, so
keys of a few exact types, under coders known to keep them apart, stand for themselves.
"""

from __future__ import annotations

import zlib
from typing import Any

from apache_beam import coders

_SELF = frozenset({int, str, bytes, type(None)})
_FAITHFUL = frozenset(
    {
        coders.FastPrimitivesCoder,
        coders.VarIntCoder,
        coders.StrUtf8Coder,
        coders.BytesCoder,
        type(coders.FastPrimitivesCoder().as_deterministic_coder("probe")),
    }
)


class KeyIds:
    """Turns keys into hashable identities.

    An identity is the key itself for an exact ``int``, ``str``, ``bytes`` or ``None``, else a one-tuple of its
    encoded bytes. The two never collide.
    """

    def __init__(self, coder: Any) -> None:
        self._encode = coder.get_impl().encode
        self.direct = _SELF if type(coder) in _FAITHFUL else frozenset()

    def of(self, key: Any) -> Any:
        """The identity of a key."""
        if key.__class__ in self.direct:
            return key
        return (self._encode(key),)

    def encoded(self, key: Any) -> bytes:
        """The key's bytes: what partitions and storage go by."""
        return bytes(self._encode(key))

    def group(self, key: Any, groups: int) -> int:
        """The key group of a key, the same in every process."""
        return zlib.crc32(self._encode(key)) % groups


def key_coder(coder: Any) -> Any:
    """The coder of the key in a keyed collection; what has no key-value coder gets Beam's general one."""
    return coder.key_coder() if coder.is_kv_coder() else coders.FastPrimitivesCoder()


def value_coder(coder: Any) -> Any:
    """The coder of the value in a keyed collection."""
    return coder.value_coder() if coder.is_kv_coder() else coders.FastPrimitivesCoder()
