"""How keys and the contents of cells become bytes, and are read back in another process or with another Beam.

What a coder made for a type encodes goes by that coder. Where the coder is one of Beam's general ones, or of its own
for plain values, pickle does the same at less cost, a whole list at once and in columns; what turns out not to be
picklable goes by the coder after all. The bytes say which way they went.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from apache_beam import coders
from apache_beam.transforms.window import IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.columns import from_columns, to_columns
from sage.runners.engine.keyed.kinds import kind_of
from sage.runners.engine.spilling.runs import is_plain
from sage.statespecs import MapStateSpec

_PICKLE = b"\x80"  # what a pickle begins with
_CODED = b"C"
_BOUNDS = struct.Struct("!qq")


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


def content_codec(spec: Any) -> ListCodec:
    """The codec of the contents of a state's cells."""
    return ListCodec(_coder_of(spec), kind_of(spec).converted)


def entry_codec(spec: MapStateSpec) -> ListCodec:
    """The codec of the entries of a map, as ``(key, value)``."""
    return ListCodec(_coder_of(spec))


def _coder_of(spec: Any) -> Any:
    if isinstance(spec, MapStateSpec):
        return coders.TupleCoder((spec.key_coder, spec.value_coder))
    return spec.coder


class WindowBytes:
    """Windows as bytes and back.

    Intervals go by their bounds in microseconds, since Beam's coder of them keeps whole milliseconds only; other
    windows go by the coder of their window function.
    """

    def __init__(self, coder: Any) -> None:
        self._coder = coder.get_impl()

    def encode(self, window: Any) -> bytes:
        """The bytes of a window."""
        if window.__class__ is IntervalWindow:
            return b"i" + _BOUNDS.pack(window.start.micros, window.end.micros)
        return b"w" + bytes(self._coder.encode(window))

    def decode(self, data: bytes) -> Any:
        """The window that `encode` made the bytes of."""
        if data[:1] == b"i":
            start, end = _BOUNDS.unpack_from(data, 1)
            return IntervalWindow(Timestamp(micros=start), Timestamp(micros=end))
        return self._coder.decode(data[1:])
