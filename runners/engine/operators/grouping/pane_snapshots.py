"""What the windows of keys hold, as bytes and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.operators.grouping.pane_contents import Values
from sage.runners.engine.operators.grouping.rows import KeyedRows
from sage.runners.engine.operators.grouping.trigger_runner import KeyPanes, WindowState
from sage.runners.engine.serde.windows import WindowForms


def pack_states(rows: KeyedRows, forms: WindowForms, holding: Values, states: Sequence[WindowState]) -> Any:
    """A plain value of windows, of any keys."""
    keys = {state.key.identity: state.key.key for state in states}
    held = rows.pack(
        [state.key.identity for state in states], keys.__getitem__, [holding.listed(state.held) for state in states]
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
    return held, rest


def unpack_states(
    rows: KeyedRows, forms: WindowForms, holding: Values, told: Any, mine: Callable[[int], bool] | None
) -> Iterator[tuple[Any, Any, WindowState]]:
    """Each window whose key is ours, with the identity and the key that it is of; ``mine`` as `KeyedRows.unpack`."""
    held, rest = told
    for number, identity, key, values in rows.unpack(held, mine):
        form, fresh, hold, done, index, settled, tags, closes, timers = rest[number]
        state = WindowState(KeyPanes(identity, key), forms.window(form), closes)
        state.held, state.fresh = holding.unlisted(values), fresh
        state.hold = None if hold is None else Timestamp(micros=hold)
        state.done, state.index, state.settled, state.tags, state.timers = done, index, settled, tags, timers
        yield identity, key, state
