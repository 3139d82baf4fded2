"""Kafka's transactions as the product's sink sees them, simulated: the coordinator, one partition, the clients.

The coordinator knows of each transactional id its producer's number and epoch, and its latest transaction. What the
broker has acknowledged outlives every crash; what a client still holds does not.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage.runners.simulation.world import World, world
from sage.transactions import SinkContext
from sage.transforms.io.kafka import sink as product
from sage.transforms.io.kafka.admin import Fenced, Transaction
from sage.transforms.io.kafka.clients import Partition, WriteFailed
from sage.transforms.io.kafka.sink import ExactlyOnce, WriteConfig
from sage.transforms.io.kafka.transactions import Prepared, is_heir

_TOPIC = "simulated"
ONGOING, PREPARED, DONE, ABORTED, EMPTY = "Ongoing", "PrepareCommit", "CompleteCommit", "CompleteAbort", "Empty"


@dataclass
class _Written:
    """A transaction that has records.

    Attributes:
        started_ms: tells it from others of its id.
        first: the offset of its first record.
        values: its records.
        state: as the coordinator names it.
    """

    started_ms: int
    first: int
    values: list[bytes] = field(default_factory=list)
    state: str = ONGOING


@dataclass
class _Id:
    """What the coordinator knows of a transactional id."""

    producer: int
    epoch: int = -1
    latest: _Written | None = None


@dataclass
class _Broker:
    """State: the ids, and all transactions in the order of their first records."""

    ids: dict[str, _Id] = field(default_factory=dict)
    log: list[_Written] = field(default_factory=list)
    end: int = 0

    def take_over(self, name: str) -> _Id:
        """A producer asks for an id: what is open under it is aborted, and who had it before is shut out."""
        world().schedule.point("abort", name)
        found = self.ids.setdefault(name, _Id(producer=len(self.ids)))
        if found.latest is not None and found.latest.state == ONGOING:
            found.latest.state = ABORTED
        found.epoch += 1
        return found

    def append(self, name: str, epoch: int, values: Sequence[bytes]) -> None:
        """Records arrive; the first of a transaction opens it."""
        world().schedule.point("produce", name)
        found = self.ids[name]
        if found.epoch != epoch:
            raise WriteFailed(f"{name} is fenced")
        if found.latest is None or found.latest.state != ONGOING:
            found.latest = _Written(world().clock.now_micros(), self.end)
            self.log.append(found.latest)
        found.latest.values += values
        self.end += len(values)

    def commit(self, name: str, producer: int, epoch: int) -> None:
        """Ends what is open under an id; whoever asked may not live to hear it."""
        dice = world().schedule
        dice.point("commit", name)
        found = self.ids[name]
        if (found.producer, found.epoch) != (producer, epoch) or found.latest is None or found.latest.state == ABORTED:
            raise Fenced(name)
        found.latest.state = dice.one_of((PREPARED, DONE))
        dice.point("commit", f"{name} answered")


def _broker() -> _Broker:
    broker: _Broker = world().outside.setdefault("kafka", _Broker())
    return broker


class _Control:
    """Stands where `sage.transforms.io.kafka.admin.Control` does."""

    def __init__(self, config: dict[str, str], patience_s: float = 0.0, connect_s: float = 0.0) -> None:
        pass

    def close(self) -> None:
        """Nothing is held."""

    def partitions(self, topics: Sequence[str], pattern: str | None) -> list[Partition]:
        return [Partition(topic, 0) for topic in topics]

    def transaction(self, name: str) -> Transaction | None:
        found = _broker().ids.get(name)
        if found is None:
            return None
        if found.latest is None:
            return Transaction(EMPTY, found.producer, found.epoch, -1, ())
        partitions = (Partition(_TOPIC, 0),) if found.latest.state == ONGOING else ()
        return Transaction(found.latest.state, found.producer, found.epoch, found.latest.started_ms, partitions)

    def first_offset(self, partition: Partition, producer: int) -> int | None:
        open_now = (found.latest for found in _broker().ids.values() if found.producer == producer)
        return next((latest.first for latest in open_now if latest is not None and latest.state == ONGOING), None)

    def commit(self, name: str, producer: int, epoch: int) -> None:
        _broker().commit(name, producer, epoch)

    def fence(self, name: str) -> None:
        _broker().take_over(name)

    def transactional_ids(self, prefix: str) -> list[str]:
        return sorted(name for name in _broker().ids if name.startswith(prefix))

    def visible(self, partition: Partition, offset: int) -> bool | None:
        """Readers pass no open transaction: one that only the asking subtask can end is waited for in vain."""
        broker, mine = _broker(), world().outside["heir"]
        for name, found in broker.ids.items():
            latest = found.latest
            if latest is not None and latest.state == ONGOING and latest.first <= offset and mine(name):
                return None
        written = next(each for each in broker.log if each.first == offset)
        return written.state in (PREPARED, DONE)


class _Producer:
    """Stands where a client's producer does: it sends what it is given sooner or later, when flushed at the latest."""

    def __init__(self, client: str, config: dict[str, str], name: str) -> None:
        self._name = name
        self._mine: tuple[int, int] = (-1, -1)
        self._held: list[bytes] = []

    def init_transactions(self, timeout_s: float) -> None:
        found = _broker().take_over(self._name)
        self._mine = (found.producer, found.epoch)

    def begin(self) -> None:
        """Only the first record opens a transaction."""

    def send(self, topic: str, rows: Sequence[tuple[bytes | None, bytes]]) -> None:
        self._held += [value for _, value in rows]
        if world().schedule.one_in(2):
            self.flush(0.0)

    def flush(self, timeout_s: float) -> None:
        held, self._held = self._held, []
        if held:
            _broker().append(self._name, self._mine[1], held)

    def commit(self, timeout_s: float) -> None:
        _broker().commit(self._name, *self._mine)
        if world().schedule.one_in(8):
            raise ConnectionError("the answer did not come in time")

    def close(self) -> None:
        """What is held is dropped."""


class ToKafka(ExactlyOnce):
    """The product's sink, whose broker is the simulated one."""

    def __init__(self) -> None:
        super().__init__(WriteConfig({"bootstrap.servers": "", "transaction.timeout.ms": "1"}, _TOPIC))

    def recover(self, context: SinkContext, prepared: Sequence[Prepared]) -> None:
        prefix = f"sage/{context.job}/{context.step}/{_TOPIC}"
        world().outside["heir"] = lambda name: is_heir(context, prefix, name)
        super().recover(context, prepared)


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """The sink reaches this broker and no other."""
    real = product.BrokerAdmin, product.open_producer
    product.BrokerAdmin, product.open_producer = _Control, _Producer  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        product.BrokerAdmin, product.open_producer = real  # type: ignore[misc]


def read_committed(world: World) -> Counter[Any]:
    """What a reader of committed records sees: all of them before the first that belongs to an open transaction."""
    broker: _Broker = world.outside.get("kafka", _Broker())
    ended = itertools.takewhile(lambda written: written.state != ONGOING, broker.log)
    return Counter(value.decode() for written in ended if written.state != ABORTED for value in written.values)
