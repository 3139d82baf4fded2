"""Chunks: what a keyed step holds, or what changed of it, as bytes that any later version of the job can read.

A chunk has the cells in columns, one set for each state by its name, and the timers in rows. Windows go by their
coder, keys and contents as `sage.runners.engine.keyed.codecs` says; None stands for a cell or a timer that is no more.
Windows that are over are not told: whoever reads knows the watermark.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, repeat
from typing import Any

from sage.errors import CheckpointError
from sage.runners.engine.keyed.codecs import ListCodec, WindowBytes, content_codec
from sage.runners.engine.keyed.keys import KeyIds
from sage.runners.engine.keyed.timers import Timer

_VERSION = 1


class Declared:
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
        names = ", ".join(repr(_told(known)) for known in sorted(declared)) or "none"
        return CheckpointError.unfit(
            f"step '{self.step}': the checkpoint holds {kind} {_told(name)!r}, which the step does not declare "
            f"(it declares: {names}). Give the {kind} its old name, or begin without this checkpoint"
        )


def _told(name: str) -> str:
    # Beam puts this before the name that a user gives a timer.
    return name.removeprefix("ts-")


Place = tuple[Any, Any]
"""A state's name and the identity of a key."""


def write_chunk(
    declared: Declared,
    cells: Iterable[tuple[Any, list[tuple[Place, Any]], Mapping[str, Mapping[Any, Any]]]],
    timers: tuple[list[tuple[Any, Timer | None]], list[tuple[Any, Timer | None]]],
    names: Iterable[str] = (),
) -> bytes:
    """The bytes of cells and timers.

    Args:
        declared: of which step.
        cells: for each window, place and content of cells, and contents by state name and identity of key; a content
            that is None says that the cell is no more.
        timers: name and setting of each, those of event time and those of processing time.
        names: states that are held elsewhere.
    """
    numbers: dict[Any, int] = {}
    columns: dict[str, tuple[list[int], list[Any], list[Any]]] = {name: ([], [], []) for name in names}
    key_of = declared.ids.key_of
    for window, rows, asleep in cells:
        number = numbers.setdefault(window, len(numbers))
        for (name, identity), content in rows:
            if name not in columns:
                columns[name] = ([], [], [])
            windows, keys, contents = columns[name]
            windows.append(number)
            keys.append(key_of(identity))
            contents.append(content)
        for name, column in asleep.items():
            windows, keys, contents = columns.setdefault(name, ([], [], []))
            windows.extend(repeat(number, len(column)))
            keys.extend(map(key_of, column))
            contents.extend(column.values())
    packed = {
        name: (windows, declared.keys.pack(keys), declared.codecs[name].pack(contents))
        for name, (windows, keys, contents) in columns.items()
    }
    timer_rows = []
    for kind in timers:
        keys = [key_of(name[1]) for name, _ in kind]
        settings = [
            (family, numbers.setdefault(window, len(numbers)), tag)
            if timer is None
            else (family, numbers.setdefault(window, len(numbers)), tag, timer.fire, timer.hold, timer.pane)
            for (family, _, window, tag), timer in kind
        ]
        timer_rows.append((declared.keys.pack(keys), settings))
    encoded = list(map(declared.window.encode, numbers))
    return pickle.dumps((_VERSION, encoded, packed, timer_rows), 5)


class Chunk:
    """What `write_chunk` made the bytes of."""

    def __init__(self, declared: Declared, data: bytes) -> None:
        version, windows, self._columns, self._timers = pickle.loads(data)
        if version != _VERSION:
            raise CheckpointError.unfit(
                f"step '{declared.step}': its state was written by another version of Sage (format {version}, "
                f"this one reads {_VERSION})"
            )
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
        for name, (numbers, packed_keys, packed) in self._columns.items():
            contents = self._declared.codecs[name].unpack(packed)
            keys = self._declared.keys.unpack(packed_keys)
            if numbers and numbers.count(numbers[0]) == len(numbers):  # most steps know one window
                yield name, self._windows[numbers[0]], keys, contents
                continue
            start = 0
            for number, run in groupby(numbers):
                end = start + sum(1 for _ in run)
                yield name, self._windows[number], keys[start:end], contents[start:end]
                start = end

    def timers(self) -> Iterator[tuple[bool, Any, Any, Any, str, Timer | None]]:
        """Whether it is of event time, family spec, key, window, tag and setting of each timer, in order of setting."""
        for event, (keys, rows) in zip((True, False), self._timers, strict=True):
            for key, (family, number, tag, *setting) in zip(self._declared.keys.unpack(keys), rows, strict=True):
                spec, window = self._declared.timer(family), self._windows[number]
                timer = Timer(spec, key, window, tag, *setting) if setting else None
                yield event, spec, key, window, tag, timer
