"""One consumer for many partitions: one that is not asked for does not keep the others from being read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from sage.transforms.io.kafka import shared
from sage.transforms.io.kafka.clients import Chunk, Partition
from sage.transforms.io.kafka.shared import SharedConsumer

FAST, SLOW = Partition("fast", 0), Partition("slow", 0)


class Log:
    """A `Consumer` of two partitions: of the fast one there is always more, of the slow one a record at a time."""

    def __init__(self) -> None:
        self.offsets: dict[Partition, int] = {}
        self.added: Counter[Partition] = Counter()

    def add(self, partition: Partition, offset: int) -> None:
        self.offsets[partition] = offset
        self.added[partition] += 1

    def remove(self, partition: Partition) -> None:
        del self.offsets[partition]

    def poll(self, limit: int) -> Sequence[tuple[Partition, Chunk]]:
        return [(each, self._next(each, limit if each == FAST else 1)) for each in list(self.offsets)]

    def _next(self, partition: Partition, count: int) -> Chunk:
        offsets = list(range(self.offsets[partition], self.offsets[partition] + count))
        self.offsets[partition] += count
        return Chunk([(None, b"%d" % n) for n in offsets], [], frozenset(), offsets)

    def passed(self, partition: Partition) -> int:
        return self.offsets[partition]

    def close(self) -> None:
        """Nothing is open."""


def test_a_partition_that_waits_for_others_in_event_time_keeps_none_of_them_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "_LATELY_S", 0.0)
    log = Log()
    consumer = SharedConsumer(log)
    for partition in (FAST, SLOW):
        consumer.add(partition, 0)
    read: list[int] = []
    for _ in range(10 * shared._MOST_WAITING // shared._PER_POLL):
        chunk = consumer.take(SLOW, 1)
        assert chunk is not None, "records of the other one are in the way"
        read += chunk.offsets
        assert consumer._waiting[FAST] <= shared._MOST_WAITING + shared._PER_POLL
    assert read == list(range(len(read)))
    assert log.added[FAST] == 1

    read = []
    while len(read) < 3 * shared._MOST_WAITING:
        chunk = consumer.take(FAST, 700)
        assert chunk is not None
        read += chunk.offsets
    assert read == list(range(len(read)))
    assert log.added[FAST] == 2


def test_what_is_asked_for_all_the_time_is_not_parked() -> None:
    log = Log()
    consumer = SharedConsumer(log)
    for partition in (FAST, SLOW):
        consumer.add(partition, 0)
    for _ in range(10 * shared._MOST_WAITING // shared._PER_POLL):
        consumer.take(SLOW, 1)
        consumer.take(FAST, 100)
    assert log.added == {FAST: 1, SLOW: 1}
