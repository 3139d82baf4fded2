"""What outlives a crash in a simulation, and where a sink finds it."""

from __future__ import annotations

import contextlib
import random
import re
import sys
import types
import uuid
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sage.errors import DataLoss
from sage.runners.simulation.broker import SimulatedBroker
from sage.runners.simulation.disk import SimulatedDisk
from sage.runners.simulation.fault_schedule import FaultSchedule
from sage.runners.worker.clock import beam_time
from sage.runtime import set_clock
from sage.transactions import SinkContext, TransactionalDoFn

START_MICROS = 1_000_000_000_000_000
GLANCE_MICROS = 20
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_READ_THE_TIME = ("apache_beam.transforms.periodicsequence",)
"""Modules of Beam that read the wall clock by themselves, and not through `Timestamp.now`."""


@dataclass
class SimulatedClock:
    """A clock that is moved by the simulator, and a little by every look at it: nothing takes no time at all."""

    micros: int = START_MICROS

    def now_micros(self) -> int:
        self.micros += GLANCE_MICROS
        return self.micros

    def now_seconds(self) -> float:
        """The same instant in seconds."""
        return self.now_micros() / 1e6


@dataclass
class World:
    """The outside of one simulated job.

    Attributes:
        dice: decides everything.
        full: whether the disk fails now and then, as one that is full.
        outside: what else there is of the outside, by name, for who simulates more of it.
    """

    schedule: FaultSchedule
    full: bool = False
    outside: dict[str, Any] = field(init=False, default_factory=dict)
    clock: SimulatedClock = field(init=False)
    disk: SimulatedDisk = field(init=False)
    broker: SimulatedBroker = field(init=False)

    def __post_init__(self) -> None:
        self.clock = SimulatedClock()
        self.disk = SimulatedDisk(self.schedule, lambda: self.full and self.schedule.one_in(24))
        self.broker = SimulatedBroker(self.schedule)

    @contextlib.contextmanager
    def entered(self) -> Iterator[World]:
        """This world is the current one, its clock the time that all code reads, and its seed makes up the UUIDs."""
        token = _current.set(self)
        set_clock(self.clock.now_seconds)
        with beam_time(self.clock), _modules_time(self.clock), _seeded_uuids(self.schedule.seed):
            yield self
        _current.reset(token)


_current: ContextVar[World] = ContextVar("sage_simulated_world")


def world() -> World:
    """The world that the calling code is simulated in."""
    return _current.get()


@contextlib.contextmanager
def _modules_time(clock: SimulatedClock) -> Iterator[None]:
    """Has modules of Beam read the simulated time."""
    patched = []
    for name in _READ_THE_TIME:
        module = sys.modules.get(name)
        real = getattr(module, "time", None)
        if module is not None and isinstance(real, types.ModuleType):
            stand_in = types.SimpleNamespace(**{**vars(real), "time": clock.now_seconds})
            module.time = stand_in  # type: ignore[attr-defined]
            patched.append((module, real))
    try:
        yield
    finally:
        for module, real in patched:
            module.time = real  # type: ignore[attr-defined]


@contextlib.contextmanager
def _seeded_uuids(seed: int) -> Iterator[None]:
    """Random UUIDs come of the seed."""
    numbers, real = random.Random(f"uuid {seed}"), uuid.uuid4
    uuid.uuid4 = lambda: uuid.UUID(int=numbers.getrandbits(128), version=4)
    try:
        yield
    finally:
        uuid.uuid4 = real


class Recorder(TransactionalDoFn):
    """Writes elements to the simulated broker exactly once: a transaction for each epoch and subtask.

    Args:
        name: what the records go by.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: list[Any] = []
        self._prefix = ""

    def recover(self, context: SinkContext, prepared: Sequence[Any]) -> None:
        broker = world().broker
        for transaction in prepared:
            self.commit(transaction)
        self._prefix = f"{context.job}/{context.step}/{context.subtask}/"
        for subtask in sorted({context.subtask, *context.earlier}):
            broker.abort(f"{context.job}/{context.step}/{subtask}/")

    def process(self, element: Any) -> Iterator[Any]:
        self._kept.append((self.name, _ADDRESS.sub("", repr(element))))
        return iter(())

    def prepare(self, epoch: int) -> Any:
        kept, self._kept = self._kept, []
        if not kept:
            return None
        transaction = f"{self._prefix}{epoch}"
        world().broker.write(transaction, kept)
        return transaction

    def commit(self, handle: Any) -> None:
        if not world().broker.commit(handle):
            raise DataLoss(f"the broker knows no transaction {handle}")
