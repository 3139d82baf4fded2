"""Blocks as bytes: what crosses a process boundary.

Values go by pickle, which keeps their types and is the fastest there is for lists of plain values; what pickle
refuses (a class of the user's main script, say) goes by cloudpickle, and what that refuses by the collection's
coder. It is the cloudpickle that Beam pickles functions with: each copy of it knows its own classes only, and a
class that came with a function must be the same class in a value. Timestamps go as microseconds, and each distinct
window and pane once.
"""

from __future__ import annotations

import pickle
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.blocks import Block

_PLAIN, _CODED = 0, 1

_cloudpickle = cloudpickle_pickler.cloudpickle


def _distinct(column: Any) -> Any:
    """A column as its distinct values and an index into them for each row; a shared value as it is."""
    if not isinstance(column, list):
        return column
    known: dict[Any, int] = {}
    rows = [known.setdefault(value, len(known)) for value in column]
    return list(known), rows


def _expanded(column: Any) -> Any:
    if isinstance(column, tuple) and len(column) == 2 and isinstance(column[1], list):
        values, rows = column
        return [values[row] for row in rows]
    return column


def encode_block(block: Block, coder: Any) -> bytes:
    """The bytes of a block whose elements ``coder`` can encode."""
    stamps: Any = block.timestamps
    stamps = [stamp.micros for stamp in stamps] if isinstance(stamps, list) else stamps.micros
    rest = (stamps, _distinct(block.windows), _distinct(block.panes))
    try:
        return pickle.dumps((_PLAIN, block.values, *rest), pickle.HIGHEST_PROTOCOL)
    except Exception:
        pass  # tried again by more patient means
    try:
        return bytes(_cloudpickle.dumps((_PLAIN, block.values, *rest)))
    except Exception:
        encode = coder.get_impl().encode
        return bytes(_cloudpickle.dumps((_CODED, [encode(value) for value in block.values], *rest)))


def decode_block(data: bytes | memoryview, coder: Any) -> Block:
    """The block that `encode_block` made the bytes of."""
    how, values, stamps, windows, panes = pickle.loads(data)
    if how == _CODED:
        decode = coder.get_impl().decode
        values = [decode(value) for value in values]
    if isinstance(stamps, list):
        known: dict[int, Timestamp] = {}
        column: Any = []
        for micros in stamps:
            stamp = known.get(micros)
            if stamp is None:
                stamp = known[micros] = Timestamp(micros=micros)
            column.append(stamp)
    else:
        column = Timestamp(micros=stamps)
    return Block(values, column, _expanded(windows), _expanded(panes))
