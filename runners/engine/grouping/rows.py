"""Rows by key as bytes that mean the same in another process: what groupings give to snapshots."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.exchange import KEY_GROUPS
from sage.runners.engine.keyed.keys import KeyIds, key_coder
from sage.runners.engine.spec import Collection
from sage.runners.engine.spilling.runs import Codec


class WindowForms:
    """Windows as plain values and back.

    Intervals go by their bounds in microseconds, since Beam's coder of them keeps whole milliseconds only; what is
    neither an interval nor the global window goes by the coder of its window function.
    """

    def __init__(self, windowfn: Any) -> None:
        self._fn = windowfn
        self._known: dict[Any, Any] = {}

    def form(self, window: Any) -> Any:
        """The plain value."""
        if window.__class__ is IntervalWindow:
            return window.start.micros, window.end.micros
        if window.__class__ is GlobalWindow:
            return None
        return self._fn.get_window_coder().encode(window)

    def window(self, form: Any) -> Any:
        """The window; equal ones that come close together are one object."""
        found = self._known.get(form)
        if found is None:
            if len(self._known) > 1000:
                self._known.clear()
            found = self._known[form] = self._made(form)
        return found

    def _made(self, form: Any) -> Any:
        if form is None:
            return GlobalWindow()
        if form.__class__ is tuple:
            return IntervalWindow(Timestamp(micros=form[0]), Timestamp(micros=form[1]))
        return self._fn.get_window_coder().decode(form)


class KeyedRows:
    """Turns rows of (identity, key, values) into bytes and back.

    A key whose identity is its encoded bytes goes with them, and gets its identity anew where it is read: those bytes
    may differ between processes. Keys and values go as `Codec` has it.

    Args:
        source: the keyed collection that the keys come from.
        values: the coder of the values.
    """

    def __init__(self, source: Collection, values: Any) -> None:
        self.ids = KeyIds(key_coder(source.coder))
        self._codec = Codec(key_coder(source.coder), values)

    def pack(self, identities: list[Any], key_of: Callable[[Any], Any], groups: list[list[Any]]) -> bytes:
        """The bytes of rows."""
        own = any(identity.__class__ is tuple for identity in identities)
        return self._codec.pack(identities, list(map(key_of, identities)) if own else None, groups)

    def pack_keys(self, keys: dict[Any, Any]) -> bytes:
        """The bytes of keys by identity."""
        return self.pack(list(keys), keys.__getitem__, [[]] * len(keys))

    def unpack(self, data: bytes, mine: Callable[[int], bool] | None) -> Iterator[tuple[int, Any, Any, list[Any]]]:
        """Each row that is ours as (its number, identity, key, values).

        ``mine`` says which key groups are ours; None if all are.
        """
        identities, keys, groups = self._codec.unpack(data)
        for number, identity in enumerate(identities):
            special = identity.__class__ is tuple
            key = keys[number] if special and keys is not None else identity
            if mine is None or mine(self.ids.group(key, KEY_GROUPS)):
                yield number, self.ids.of(key) if special else identity, key, groups[number]


def pack_parts(*parts: Any) -> bytes:
    """The bytes of plain values."""
    return pickle.dumps(parts, 5)


def unpack_parts(chunks: Iterable[bytes]) -> Iterator[Any]:
    """What `pack_parts` was given, for each chunk."""
    return map(pickle.loads, chunks)
