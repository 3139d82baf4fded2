"""Chunks: what a keyed step holds, or what changed of it, as bytes that any later version of the job can read.

A chunk has cells and timers in columns (`sage.runners.engine.serde.columns`), those of the cells for each state by its
name. Windows go by their coder, keys and contents as `state_codecs` says; None stands for a cell that is no more.
Keys of two columns that are equal are there once. Windows that are over are not told: whoever reads knows the
watermark. Chunks of format 1, which had timers in rows, can be read.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, repeat
from operator import attrgetter, is_
from typing import Any

from sage.errors import CheckpointError
from sage.runners.engine.core.keys import KeyIds
from sage.runners.engine.operators.keyed.state_codecs import content_codec
from sage.runners.engine.operators.keyed.timers import Timer, TimerChanges
from sage.runners.engine.serde.columns import from_columns, slices, to_columns
from sage.runners.engine.serde.values import ListCodec
from sage.runners.engine.serde.windows import WindowBytes

_VERSION = 2
_ROWS = 1  # the format that has timers in rows


class StateSchema:
    """What a step declares: its states and timers by name, and how they are told.

    Args:
        step: the step's name.
        states: state specs by name.
        timers: timer specs by name.
        key_coder: Beam's coder of the keys.
        window_coder: of the windows.
    """

    def __init__(
        self, step: str, states: Mapping[str, Any], timers: Mapping[str, Any], key_coder: Any, window_coder: Any
    ) -> None:
        self.step = step
        self.states = states
        self.timers = timers
        self.ids = KeyIds(key_coder)
        self.codecs = {name: content_codec(spec) for name, spec in states.items()}
        self.keys = ListCodec(key_coder)
        self.window = WindowBytes(window_coder)

    def state(self, name: str) -> Any:
        """The spec of a state.

        Raises:
            CheckpointError: the step has none of this name.
        """
        if name not in self.states:
            raise self._misfit("state", name, self.states)
        return self.states[name]

    def timer(self, name: str) -> Any:
        """The spec of a family of timers.

        Raises:
            CheckpointError: the step has none of this name.
        """
        if name not in self.timers:
            raise self._misfit("timer", name, self.timers)
        return self.timers[name]

    def _misfit(self, kind: str, name: str, declared: Mapping[str, Any]) -> CheckpointError:
        names = ", ".join(repr(_kind_name(known)) for known in sorted(declared)) or "none"
        return CheckpointError.unfit(
            f"step '{self.step}': the checkpoint holds {kind} {_kind_name(name)!r}, which the step does not declare "
            f"(it declares: {names}). Give the {kind} its old name, or begin without this checkpoint"
        )


def _kind_name(name: str) -> str:
    # Beam puts this before the name that a user gives a timer.
    return name.removeprefix("ts-")


Column = tuple[Sequence[Any], Sequence[Any]]
"""Identities of keys, and for each a content."""


class _KeyPacker:
    """Packs columns of keys, those that are equal once.

    State: the identities that were packed, and their bytes.
    """

    def __init__(self, declared: StateSchema) -> None:
        self._declared = declared
        self._packed: list[tuple[Sequence[Any], bytes]] = []

    def pack(self, identities: Sequence[Any]) -> bytes:
        """The bytes of keys; the same object for equal identities, which pickle then writes once."""
        for known, data in self._packed:
            if known == identities:
                return data
        data = self._declared.keys.pack(self._declared.ids.keys_of(identities))
        self._packed.append((identities, data))
        return data


class _Numbers:
    """Numbers windows. State: the number of each."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, window: Any) -> int:
        """The number of a window."""
        return self.known.setdefault(window, len(self.known))

    def of_all(self, windows: Sequence[Any]) -> list[int]:
        """The numbers of windows. Most are one object, and telling objects apart takes less time than hashing them."""
        if windows and all(map(is_, windows, repeat(windows[0]))):
            return [self.of(windows[0])] * len(windows)
        places = list(map(id, windows))
        numbers = {place: self.of(window) for place, window in dict(zip(places, windows, strict=True)).items()}
        return list(map(numbers.__getitem__, places))


def write_chunk(
    declared: StateSchema,
    cells: Iterable[tuple[Any, Mapping[str, Column]]],
    timers: tuple[TimerChanges, TimerChanges],
    names: Iterable[str] = (),
) -> bytes:
    """The bytes of cells and timers.

    Args:
        declared: of which step.
        cells: windows, each with contents by state name; a window may come more than once. A content that is None says
            that the cell is no more.
        timers: those of event time and those of processing time.
        names: states that are held elsewhere.
    """
    windows, keys = _Numbers(), _KeyPacker(declared)
    columns: dict[str, tuple[list[Any], list[Any], list[Any]]] = {name: ([], [], []) for name in names}
    for window, found in cells:
        number = windows.of(window)
        for name, (identities, contents) in found.items():
            runs, all_identities, all_contents = columns.setdefault(name, ([], [], []))
            runs.append((number, len(identities)))
            all_identities.extend(identities)
            all_contents.extend(contents)
    packed = {
        name: (runs, keys.pack(identities), declared.codecs[name].pack(contents))
        for name, (runs, identities, contents) in columns.items()
    }
    settings = [_timer_columns(changes, windows, keys) for changes in timers]
    encoded = list(map(declared.window.encode, windows.known))
    return pickle.dumps((_VERSION, encoded, packed, settings), 5)


_Names = tuple[bytes, Any]
"""Keys of timers, and columns of their families, windows and tags, some thousand timers at a time."""


def _timer_columns(changes: TimerChanges, windows: _Numbers, keys: _KeyPacker) -> tuple[_Names, _Names, Any]:
    return (
        _name_columns(changes.gone, windows, keys),
        _name_columns(changes.names, windows, keys),
        list(map(_setting_columns, slices(changes.timers))),
    )


def _name_columns(names: Sequence[Any], windows: _Numbers, keys: _KeyPacker) -> _Names:
    identities, columns = [], []
    for part in slices(names):
        parts = list(chain.from_iterable(part))
        families, found, places, tags = (parts[at::4] for at in range(4))
        identities += found
        columns.append((to_columns(families), to_columns(windows.of_all(places)), to_columns(tags)))
    return keys.pack(identities), columns


def _setting_columns(timers: Sequence[Timer]) -> tuple[Any, Any, Any]:
    """When timers fire, what they hold, and their panes; None for what they hold where that is when they fire."""
    fires, holds, panes = (list(map(attrgetter(part), timers)) for part in ("fire", "hold", "pane"))
    return to_columns(fires), None if holds == fires else to_columns(holds), to_columns(panes)


def _settings_in(form: tuple[Any, Any, Any]) -> Iterator[tuple[Any, ...]]:
    fires = from_columns(form[0])
    holds = fires if form[1] is None else from_columns(form[1])
    return zip(fires, holds, from_columns(form[2]), strict=True)


def _counted(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Each number that stands in a row, and how often it does (count)."""
    return ((number, sum(1 for _ in run)) for number, run in groupby(numbers))


class Chunk:
    """What `write_chunk` made the bytes of."""

    def __init__(self, declared: StateSchema, data: bytes) -> None:
        version, windows, self._columns, self._timers = pickle.loads(data)
        if version not in (_ROWS, _VERSION):
            raise CheckpointError.unfit(
                f"step '{declared.step}': its state was written by another version of Sage (format {version}, "
                f"this one reads {_ROWS} to {_VERSION})"
            )
        self._in_rows = version == _ROWS
        self._declared = declared
        self._windows = list(map(declared.window.decode, windows))
        for name in self._columns:
            declared.state(name)

    @property
    def names(self) -> Iterable[str]:
        """The states that it tells of."""
        return self._columns.keys()

    def cells(self) -> Iterator[tuple[str, Any, list[Any], list[Any]]]:
        """State name, window, keys and contents of cells; a content is None where there is no cell any more."""
        for name, (runs, packed_keys, packed) in self._columns.items():
            contents = self._declared.codecs[name].unpack(packed)
            keys = self._declared.keys.unpack(packed_keys)
            start = 0
            for number, count in _counted(runs) if self._in_rows else runs:
                end = start + count
                whole = count == len(keys)  # most steps know one window
                run = (keys, contents) if whole else (keys[start:end], contents[start:end])
                yield name, self._windows[number], *run
                start = end

    def timers(self) -> Iterator[tuple[bool, Any, Any, Any, str, Timer | None]]:
        """Whether it is of event time, family spec, key, window, tag and setting of each timer, in order of setting."""
        for event, kind in zip((True, False), self._timers, strict=True):
            for key, family, number, tag, setting in self._rows(*kind) if self._in_rows else self._settings(*kind):
                spec, window = self._declared.timer(family), self._windows[number]
                timer = Timer(spec, key, window, tag, *setting) if setting else None
                yield event, spec, key, window, tag, timer

    def _rows(self, keys: bytes, rows: list[Any]) -> Iterator[tuple[Any, ...]]:
        """Key, family, number of the window, tag and setting of the timers of one time domain; () where it is gone."""
        for key, (family, number, tag, *setting) in zip(self._declared.keys.unpack(keys), rows, strict=True):
            yield key, family, number, tag, setting

    def _settings(self, gone: _Names, names: _Names, settings: Any) -> Iterator[tuple[Any, ...]]:
        yield from zip(*self._named(gone), repeat(()))
        yield from zip(*self._named(names), chain.from_iterable(map(_settings_in, settings)), strict=True)

    def _named(self, names: _Names) -> tuple[list[Any], ...]:
        keys, columns = names
        found = ([value for part in columns for value in from_columns(part[at])] for at in range(3))
        return self._declared.keys.unpack(keys), *found
