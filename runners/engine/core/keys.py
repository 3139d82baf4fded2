"""Key identity: two keys are one key when their encoded bytes are equal.

``1``, ``True`` and ``1.0`` are equal in Python and three keys in Beam. Encoding every key costs a microsecond, so
keys of a few exact types, and tuples of them, stand for themselves under coders known to keep them apart.

A key that its coder refuses is an error wherever it comes up first, so that a job fails alike with one worker, where
few keys are ever encoded, and with many.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apache_beam import coders

from sage.trace import raise_location

_SELF = frozenset({int, str, bytes, type(None)})
_SCALARS = _SELF | {bool, float}
_GENERAL = frozenset({coders.FastPrimitivesCoder, type(coders.FastPrimitivesCoder().as_deterministic_coder("probe"))})
_NARROW = frozenset({coders.VarIntCoder, coders.StrUtf8Coder, coders.BytesCoder})
_UNFIT = "a key does not fit the coder"
_LEAST_INT, _MOST_INT = -(1 << 63), (1 << 63) - 1  # what Beam's coder of integers takes


class KeyIds:
    """Turns keys into hashable identities.

    An identity is the key itself for an exact ``int``, ``str``, ``bytes`` or ``None`` and for a tuple of these, else
    ``(..., encoded bytes)``. No two kinds collide, for the ellipsis is in no key that stands for itself. Whether an
    identity is a key can be seen by its class, except for tuples.
    """

    def __init__(self, coder: Any) -> None:
        impl = coder.get_impl()
        self._coder = coder
        self._encode, self._decode = impl.encode, impl.decode
        self._plain = _SELF if _is_faithful(coder) else frozenset()
        # A coder made for some types gives one encoding to what is equal in them: True is 1 to a coder of integers.
        self._narrow = type(coder) not in _GENERAL and bool(self._plain)
        self._canonical = _canonical_form(coder)
        self._nested = type(coder) is coders.TupleCoder
        self._fits = _fits(coder)
        self.direct = frozenset() if self._nested else self._plain

    def of(self, key: Any) -> Any:
        """The identity of a key.

        A key that stands for itself is not encoded: see `check`.

        Raises:
            TypeError: its coder refuses the key; what a coder of the user's raises stays as it is.
        """
        plain = self._plain
        if key.__class__ is tuple and plain:
            for part in key:
                if part.__class__ not in plain:
                    break
            else:
                return key
        elif key.__class__ in plain:
            return key
        data = self._encoded(key)
        if self._narrow:
            decoded = self._decode(data)
            if decoded.__class__ in plain or (decoded.__class__ is tuple and {*map(type, decoded)} <= plain):
                return decoded
        return (..., data)

    def check(self, identities: Sequence[Any]) -> None:
        """Checks that keys that stand for themselves can be encoded; called once for those that are new.

        Raises:
            TypeError: their coder refuses one: None under a coder of texts, an integer beyond 64 bits under a coder
                of integers, half a surrogate pair.
        """
        if self._fits(identities):
            return
        for identity in identities:
            if not (identity.__class__ is tuple and identity and identity[0] is ...):
                self._encoded(identity)

    def _encoded(self, key: Any) -> Any:
        """The bytes of a key, as it is."""
        try:
            if self._nested:
                _check_lengths(self._coder, key)
            return self._encode(key)
        except Exception as error:
            raise unfit_key(error, self._coder, key) from error

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
        try:
            return bytes(self._encode(key if key.__class__ in _SELF else self._canonical(key)))
        except Exception as error:
            raise unfit_key(error, self._coder, key) from error

    def group(self, key: Any, groups: int) -> int:
        """The key group of a key, the same wherever its stored bytes are."""
        try:
            return zlib.crc32(self._encode(key if key.__class__ in _SELF else self._canonical(key))) % groups
        except Exception as error:
            raise unfit_key(error, self._coder, key) from error

    def groups(self, keys: Sequence[Any], groups: int) -> Iterator[tuple[Any, int]]:
        """Each key with its key group, for keys of types in ``direct``."""
        try:
            sums = list(map(zlib.crc32, map(self._encode, keys)))
        except Exception:
            return iter([(key, self.group(key, groups)) for key in keys])  # finds the one, and names it
        return ((key, sum % groups) for key, sum in zip(keys, sums, strict=True))


def unfit_key(error: Exception, coder: object, key: Any) -> Exception:
    """Says whose type hints are wrong when a coder of Beam's refuses a key; what a user's coder raises stands."""
    if str(error).startswith(("Unable to determin", _UNFIT)) or raise_location(error.__traceback__):
        return error
    if not isinstance(error, TypeError | ValueError | AttributeError | OverflowError | AssertionError):
        return error
    return TypeError(
        f"{_UNFIT} that its type hints ask for, {coder}: {key!r:.100}: {error}. Make the output type of the step before"
        " fit the keys that it gives"
    ).with_traceback(error.__traceback__)


def _fits(coder: Any) -> Callable[[Sequence[Any]], bool]:
    """A function that knows, at little cost, of most keys that can be encoded that they can, for many at once."""
    kind = type(coder)
    if kind in _GENERAL:
        return _fit_general
    if kind is coders.VarIntCoder:
        return lambda keys: {*map(type, keys)} <= {int} and min(keys) >= _LEAST_INT and max(keys) <= _MOST_INT
    if kind is coders.StrUtf8Coder:
        return lambda keys: {*map(type, keys)} <= {str} and _are_unicode(keys)
    if kind is coders.BytesCoder:
        return lambda keys: {*map(type, keys)} <= {bytes}
    if kind is coders.TupleCoder:
        parts = list(map(_fits, coder.coders()))
        return lambda keys: (
            {*map(type, keys)} <= {tuple}
            and {*map(len, keys)} <= {len(parts)}
            and all(fit(column) for fit, column in zip(parts, zip(*keys, strict=True), strict=True))
        )
    return lambda keys: False


def _fit_general(keys: Sequence[Any]) -> bool:
    kinds = {*map(type, keys)}
    if kinds <= {tuple}:
        keys = list(itertools.chain.from_iterable(keys))
        kinds = {*map(type, keys)}
    if not kinds <= _SELF:
        return False
    return str not in kinds or _are_unicode([key for key in keys if key.__class__ is str])


def _are_unicode(texts: Sequence[str]) -> bool:
    """Whether none has half a surrogate pair."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_lengths(coder: Any, key: Any) -> None:
    """Refuses a tuple with more parts than its coder has, which would leave them out."""
    if type(coder) is coders.TupleCoder:
        for part, value in zip(coder.coders(), key, strict=True):
            _check_lengths(part, value)


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
