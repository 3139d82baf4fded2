"""Values as bytes, a page or a list of them at once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from apache_beam import coders

from sage.runners.engine.core.sizes import size_of_values
from sage.runners.engine.serde.columns import from_columns, is_record, to_columns

_PICKLED = frozenset(
    {
        coders.BooleanCoder,
        coders.BytesCoder,
        coders.FastPrimitivesCoder,
        coders.FloatCoder,
        coders.PickleCoder,
        coders.StrUtf8Coder,
        coders.TimestampCoder,
        coders.VarIntCoder,
    }
)


_COLUMNS = None  # in place of whether a page went by its coder


def _has_records(groups: list[Any]) -> bool:
    """Whether values are named tuples, by a look at the first."""
    first = next((group for group in groups if group), ())
    return first.__class__ is list and is_record(first[0].__class__)


class Envelope(NamedTuple):
    """What is about each value of a group: how to look inside, and how to put something else there."""

    inner: Callable[[Any], Any]
    with_inner: Callable[[Any, Any], Any]


class Codec:
    """Turns keys and values into bytes and back.

    Values go by pickle where their coder is one of Beam's own for plain values, in lists and so at little cost each,
    named tuples in columns; else by their coder. What turns out not to be picklable goes by its coder from then on.
    """

    def __init__(self, key_coder: Any, value_coder: Any, envelope: Envelope | None = None) -> None:
        self._key = key_coder.get_impl()
        self._by_coder = not (is_plain(key_coder) and is_plain(value_coder))
        self._envelope = envelope
        value = value_coder.get_impl()
        self._encode: Callable[[Any], Any] = value.encode
        self._decode: Callable[[Any], Any] = value.decode
        if envelope is not None:
            inner, with_inner = envelope
            self._encode = lambda item: with_inner(item, value.encode(inner(item)))
            self._decode = lambda item: with_inner(item, value.decode(inner(item)))

    def pack(self, identities: list[Any], keys: list[Any] | None, groups: list[Any]) -> bytes:
        """A page: identities, their keys where they do not stand for themselves, and lists of values.

        A group that is a tuple is a reference to values on disk and stays as it is.
        """
        if not self._by_coder:
            try:
                if _has_records(groups):
                    return pickle.dumps((_COLUMNS, identities, keys, to_columns(groups)), 5)
                return pickle.dumps((False, identities, keys, groups), 5)
            except Exception:
                self._by_coder = True
        encode = self._encode
        coded = [group if group.__class__ is tuple else list(map(encode, group)) for group in groups]
        if keys is not None:
            keys = [None if identity.__class__ is not tuple else self._key.encode(key)
                    for identity, key in zip(identities, keys, strict=True)]  # fmt: skip
        return pickle.dumps((True, identities, keys, coded), 5)

    def unpack(self, data: bytes) -> tuple[list[Any], list[Any] | None, list[Any]]:
        """What was packed."""
        by_coder, identities, keys, groups = pickle.loads(data)
        if by_coder is _COLUMNS:
            return identities, keys, from_columns(groups)
        if by_coder:
            decode = self._decode
            groups = [group if group.__class__ is tuple else list(map(decode, group)) for group in groups]
            if keys is not None:
                keys = [None if key is None else self._key.decode(key) for key in keys]
        return identities, keys, groups

    def weigh(self, values: list[Any]) -> int:
        """About how many bytes a list of values is."""
        if self._envelope is None:
            return size_of_values(values)
        return size_of_values(list(map(self._envelope.inner, values)))

    def pack_values(self, values: list[Any]) -> bytes:
        """A list of values."""
        return self.pack([], None, [values])

    def unpack_values(self, data: bytes) -> list[Any]:
        """The list of values that was packed."""
        values: list[Any] = self.unpack(data)[2][0]
        return values


def is_plain(coder: Any) -> bool:
    """Whether what a coder encodes can as well be pickled: it is one of Beam's own for plain values, or general."""
    if type(coder) in (coders.TupleCoder, coders.IterableCoder, coders.ListCoder, coders.NullableCoder):
        return all(map(is_plain, coder._get_component_coders()))
    return type(coder) in _PICKLED


_PICKLE = b"\x80"  # what a pickle begins with


_CODED = b"C"


class ListCodec:
    """Lists of values of one coder.

    Args:
        coder: Beam's coder of a value.
        converted: a value with a function applied to each part of it that the coder is for; None if it is for the
            value.
    """

    def __init__(self, coder: Any, converted: Callable[[Any, Any], Any] | None = None) -> None:
        impl = coder.get_impl()
        self._encode, self._decode = impl.encode, impl.decode
        self._converted = converted or _whole
        self._by_coder = not is_plain(coder)

    def pack(self, values: list[Any]) -> bytes:
        """The bytes of a list; None may stand for what is not there, and for a None."""
        if not self._by_coder:
            try:
                return pickle.dumps(to_columns(values), 5)
            except Exception:
                self._by_coder = True
        coded = [None if value is None else self._outward(value) for value in values]
        return _CODED + pickle.dumps(to_columns(coded), 5)

    def unpack(self, data: bytes) -> list[Any]:
        """The list that was packed."""
        if data[:1] == _PICKLE:
            return from_columns(pickle.loads(data))
        coded = from_columns(pickle.loads(memoryview(data)[1:]))
        return [None if value is None else self._inward(value) for value in coded]

    def pack_one(self, value: Any) -> bytes:
        """The bytes of one value."""
        if not self._by_coder:
            try:
                return pickle.dumps(value, 5)
            except Exception:
                self._by_coder = True
        return _CODED + pickle.dumps(self._outward(value), 5)

    def unpack_one(self, data: bytes) -> Any:
        """The value that was packed by itself."""
        if data[:1] == _PICKLE:
            return pickle.loads(data)
        return self._inward(pickle.loads(memoryview(data)[1:]))

    def _outward(self, value: Any) -> Any:
        return self._converted(value, self._encode)

    def _inward(self, value: Any) -> Any:
        return self._converted(value, self._decode)


def _whole(value: Any, convert: Any) -> Any:
    return convert(value)
