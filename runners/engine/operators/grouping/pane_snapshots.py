"""What the windows of keys hold, as bytes and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.operators.grouping.pane_contents import BufferedValues
from sage.runners.engine.operators.grouping.rows import KeyedRows
from sage.runners.engine.operators.grouping.trigger_runner import KeyWindows, WindowState
from sage.runners.engine.serde.windows import WindowForms


def pack_states(rows: KeyedRows, forms: WindowForms, contents_of: BufferedValues, states: Sequence[WindowState]) -> Any:
    """A plain value of windows, of any keys."""
    keys = {state.key.identity: state.key.key for state in states}
    contents = rows.pack(
        [state.key.identity for state in states],
        keys.__getitem__,
        [contents_of.to_list(state.contents) for state in states],
    )
    rest = [
        (
            forms.form(state.window),
            state.fresh,
            None if state.hold is None else state.hold.micros,
            state.done,
            state.index,
            state.settled,
            state.tags,
            state.closes,
            state.timers,
        )
        for state in states
    ]
    return contents, rest


def unpack_states(
    rows: KeyedRows, forms: WindowForms, contents_of: BufferedValues, packed: Any, mine: Callable[[int], bool] | None
) -> Iterator[tuple[Any, Any, WindowState]]:
    """Each window whose key is ours, with the identity and the key that it is of; ``mine`` as `KeyedRows.unpack`."""
    contents, rest = packed
    for number, identity, key, values in rows.unpack(contents, mine):
        form, fresh, hold, done, index, settled, tags, closes, timers = rest[number]
        state = WindowState(KeyWindows(identity, key), forms.window(form), closes)
        state.contents, state.fresh = contents_of.from_list(values), fresh
        state.hold = None if hold is None else Timestamp(micros=hold)
        state.done, state.index, state.settled, state.tags, state.timers = done, index, settled, tags, timers
        yield identity, key, state
