"""What the simulated jobs are made of: a replayable stream, and sinks in two phases on the simulated disk."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sage.runners.simulation.world import World, world
from sage.sources import Batch, SplitReader, StreamSource
from sage.transactions import SinkContext, TransactionalDoFn
from tests.simulation.file_systems import read_parts
from tests.simulation.kafka import read_committed

SECOND = 1_000_000


def event(split: int, index: int) -> tuple[str, int]:
    """The event at a place of the stream: a key and a number."""
    return f"key-{(split * 7 + index * 3) % 5}", split * 1_000 + index


@dataclass(frozen=True)
class Events(StreamSource[tuple[str, int]]):
    """Events at fixed places, about one for each second in each split; some come out of order.

    Attributes:
        count: how many events each split has.
        parts: how many splits there are.
    """

    count: int = 25
    parts: int = 3
    bounded = False

    def splits(self) -> Sequence[int]:
        return range(self.parts)

    def reader(self, split: int, position: Any) -> SplitReader[tuple[str, int]]:
        return EventReader(self, split, position or 0)


class EventReader(SplitReader[tuple[str, int]]):
    """Gives a few events at a time, and now and then none."""

    def __init__(self, source: Events, split: int, position: int) -> None:
        self.source = source
        self.split = split
        self.at = position

    def poll(self, limit: int) -> Batch | None:
        dice = world().schedule
        if dice.one_in(3) or self.finished:
            return None
        first = self.at
        self.at = min(first + 1 + dice.upto(3), self.source.count)
        places = range(first, self.at)
        return Batch([event(self.split, at) for at in places], [_time(at) for at in places])

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return max((self.at - 2) * SECOND, 0)

    @property
    def finished(self) -> bool:
        return self.at >= self.source.count

    def committed(self, position: int) -> None:
        world().schedule.note("consumed", f"{self.split} {position}")


def _time(index: int) -> int:
    return (index + (1 if index % 4 == 0 else -1 if index % 4 == 1 else 0)) * SECOND


FOLDER = "/out"


class FileSink(TransactionalDoFn):
    """A file for each epoch and subtask on the simulated disk: synced when prepared, renamed when committed."""

    def __init__(self) -> None:
        self._rows: list[Any] = []
        self._name = ""

    def recover(self, context: SinkContext, prepared: Sequence[str]) -> None:
        disk = world().disk
        if not disk.is_folder(FOLDER):
            disk.make(FOLDER)
        disk.sync("/")
        for path in prepared:
            self.commit(path)
        name = f"{context.job}-{context.step}".replace("/", "_")
        mine = tuple(f"{FOLDER}/.{name}-{subtask}-" for subtask in {context.subtask, *context.earlier})
        for path in disk.files(FOLDER):
            if path.startswith(mine):
                disk.remove(path)
        self._name = f"{name}-{context.subtask}"

    def process(self, element: Any) -> Iterator[Any]:
        self._rows.append(element)
        return iter(())

    def prepare(self, epoch: int) -> str | None:
        rows, self._rows = self._rows, []
        if not rows:
            return None
        path = f"{FOLDER}/.{self._name}-{epoch:06}"
        world().disk.write(path, json.dumps(rows).encode())
        self.flush(path)
        return path

    def flush(self, path: str) -> None:
        """What was written outlives a loss of power."""
        world().disk.sync(path)
        world().disk.sync(FOLDER)

    def commit(self, handle: str) -> None:
        disk = world().disk
        target = f"{FOLDER}/{posixpath.basename(handle)[1:]}"
        if handle in disk.files(FOLDER):
            disk.rename(handle, target)
        assert target in disk.files(FOLDER), f"{handle} is lost"
        disk.sync(FOLDER)


def read_files(world: World) -> Counter[Any]:
    """What the files hold that were committed."""
    rows: Counter[Any] = Counter()
    for path in world.disk.files(FOLDER):
        if not posixpath.basename(path).startswith("."):
            rows.update(map(repr, json.loads(world.disk.read(path))))
    return rows


def read_all(world: World) -> Counter[Any]:
    """What is in files and objects, and at the brokers."""
    return read_files(world) + read_parts(world) + read_committed(world) + world.broker.read()
