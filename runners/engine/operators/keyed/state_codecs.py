"""How keys and the contents of cells become bytes, and are read back in another process or with another Beam.

What a coder made for a type encodes goes by that coder. Where the coder is one of Beam's general ones, or of its own
for plain values, pickle does the same at less cost, a whole list at once and in columns; what turns out not to be
picklable goes by the coder after all. The bytes say which way they went.
"""

from __future__ import annotations

from typing import Any

from apache_beam import coders

from sage.runners.engine.operators.keyed.kinds import kind_of
from sage.runners.engine.serde.values import ListCodec
from sage.statespecs import MapStateSpec


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


