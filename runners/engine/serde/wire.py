"""Blocks as bytes: what crosses a process boundary.

Values go by pickle, which keeps their types and is the fastest there is for lists of plain values; what pickle
refuses (a class of the user's main script, say) goes by cloudpickle, and what that refuses by the collection's
coder. Timestamps go as microseconds, and each distinct window and pane once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from apache_beam import coders
from apache_beam.transforms.window import IntervalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core.blocks import Block, TimestampColumn
from sage.runners.engine.serde.pickling import dumps

_PLAIN, _CODED = 0, 1


def _distinct(column: Any, form: Callable[[Any], Any]) -> Any:
    """A column as its distinct values and an index into them for each row; a shared value as it is.

    Values go in the ``form`` that is quick to hash and to pickle.
    """
    if not isinstance(column, list):
        return column
    # Most equal values are one object, and telling objects apart takes less time than hashing them.
    numbers = list(map(id, column))
    objects = dict(zip(numbers, column, strict=True))
    known: dict[Any, int] = {}
    rows = {number: known.setdefault(form(value), len(known)) for number, value in objects.items()}
    return list(known), [rows[number] for number in numbers]


def _expanded(column: Any, value_of: Callable[[Any], Any]) -> Any:
    if isinstance(column, tuple) and len(column) == 2 and isinstance(column[1], list):
        values = [value_of(form) for form in column[0]]
        return [values[row] for row in column[1]]
    return column


def _bounds(windows: tuple[Any, ...]) -> Any:
    """Windows as a list of bounds (microseconds) in a tuple, where they are plain intervals."""
    if all(window.__class__ is IntervalWindow for window in windows):
        return tuple([(window.start.micros, window.end.micros) for window in windows])
    return windows


def _windows(form: Any) -> tuple[Any, ...]:
    return tuple([
        IntervalWindow(_timestamp(part[0]), _timestamp(part[1])) if part.__class__ is tuple else part for part in form
    ])


def _same(value: Any) -> Any:
    return value


def _timestamp(micros: int) -> Timestamp:
    return Timestamp(micros=micros)


def _micros(stamps: Any) -> Any:
    """Timestamps in microseconds; as they are, where those would not tell all of them."""
    if isinstance(stamps, TimestampColumn):
        return list(stamps.micros)
    try:
        return [stamp.micros for stamp in stamps] if isinstance(stamps, list) else stamps.micros
    except ValueError:
        return (stamps,)


def _stamps(form: Any) -> Any:
    if isinstance(form, tuple):
        return form[0]
    return TimestampColumn(form) if isinstance(form, list) else _timestamp(form)


def encode_block(block: Block, coder: Any) -> bytes:
    """The bytes of a block whose elements ``coder`` can encode."""
    rest = (_micros(block.timestamps), _distinct(block.windows, _bounds), _distinct(block.panes, _same))
    try:
        return pickle.dumps((_PLAIN, block.values, *rest), pickle.HIGHEST_PROTOCOL)
    except Exception:
        pass  # tried again by more patient means
    try:
        return dumps((_PLAIN, block.values, *rest))
    except Exception:
        encode = coder.get_impl().encode
        return dumps((_CODED, [encode(value) for value in block.values], *rest))


def decode_block(data: bytes | memoryview, coder: Any) -> Block:
    """The block that `encode_block` made the bytes of."""
    how, values, stamps, windows, panes = pickle.loads(data)
    if how == _CODED:
        decode = coder.get_impl().decode
        values = [decode(value) for value in values]
    return Block(values, _stamps(stamps), _expanded(windows, _windows), _expanded(panes, _same))


_GENERAL = coders.FastPrimitivesCoder()


def encode_row(value: WindowedValue, attachment: Any) -> bytes:
    """The bytes of one element of any kind, and of what is to travel beside it."""
    block = Block([(value.value, attachment)], value.timestamp, tuple(value.windows), value.pane_info)
    return encode_block(block, _GENERAL)


def decode_row(data: bytes) -> tuple[WindowedValue, Any]:
    """What `encode_row` made the bytes of."""
    (value,) = decode_block(data, _GENERAL).windowed_values()
    inner, attachment = value.value
    return value.with_value(inner), attachment
