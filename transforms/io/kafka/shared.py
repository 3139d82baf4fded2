"""One consumer for all partitions that a worker reads, and one thread that watches where they end."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sage.errors import DataLoss
from sage.transforms.io.kafka.admin import BrokerAdmin
from sage.transforms.io.kafka.clients import Chunk, Consumer, OutOfRange, Partition

__all__ = ["Ends", "SharedConsumer", "Watcher"]

_PER_POLL = 500  # clients make an object for each record: few at a time stay in the processor's cache, and are freed
_MOST_WAITING = 20_000
_EMPTY_S = 0.001
_LATELY_S = 0.5
_WATCH_EVERY_S = 0.5
_COMPLAIN_EVERY_S = 30.0
_GONE_AFTER_S = 15.0
_log = logging.getLogger("sage.kafka")


class SharedConsumer:
    """Records by partition. While many wait for their turn nothing more is fetched: they do not fill the memory.

    A partition that is not asked for, such as one that waits for others to come after it in event time, does not keep
    the others from being fetched: when there is no room for what is asked for, those of which records wait and that
    nobody has asked for lately are parked, which means that they are not read until their records are taken, and then
    from where they were. (To pause a partition would not do: kafka-python 3.0 may forget what it had of one when it
    goes on.)

    State: the records that were fetched and not taken, by partition; when each was last asked for; which are parked;
    when to fetch again if there was nothing.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._buffers: dict[Partition, collections.deque[Chunk]] = {}
        self._waiting: dict[Partition, int] = {}
        self._asked: dict[Partition, float] = {}
        self._parked: set[Partition] = set()
        self._next_fetch = 0.0
        self._lost: dict[Partition, OutOfRange] = {}

    def add(self, partition: Partition, offset: int) -> None:
        """Reads a partition from an offset on."""
        self.remove(partition)
        self._buffers[partition] = collections.deque()
        self._waiting[partition] = 0
        self._asked[partition] = time.monotonic()
        self._consumer.add(partition, offset)

    def remove(self, partition: Partition) -> None:
        """Reads a partition no more."""
        if self._buffers.pop(partition, None) is not None:
            del self._waiting[partition], self._asked[partition]
            if partition in self._parked:
                self._parked.remove(partition)
            else:
                self._consumer.remove(partition)

    def take(self, partition: Partition, limit: int) -> Chunk | None:
        """The next records of a partition that are here, at most ``limit`` (count); None if there are none.

        Raises:
            OutOfRange: the partition does not have the offset any more.
        """
        buffer = self._buffers[partition]
        self._asked[partition] = time.monotonic()
        taken: list[Chunk] = []
        count = 0
        while count < limit and (buffer or self._fetch(partition)):
            chunk = buffer.popleft()
            if len(chunk.rows) > limit - count:
                chunk, rest = _cut(chunk, limit - count)
                buffer.appendleft(rest)
            taken.append(chunk)
            count += len(chunk.rows)
            self._waiting[partition] -= len(chunk.rows)
            if not buffer and partition in self._parked:
                self._parked.remove(partition)
                self._consumer.add(partition, chunk.offsets[-1] + 1)
        if not taken:
            if partition in self._lost:
                raise self._lost[partition]
            return None
        return taken[0] if len(taken) == 1 else _joined(taken)

    def has(self, partition: Partition) -> bool:
        """Whether records of a partition are here."""
        return bool(self._buffers[partition])

    def _fetch(self, wanted: Partition) -> bool:
        """Takes from the consumer what is there; whether that was something for the wanted partition."""
        if time.monotonic() < self._next_fetch:
            return False
        if self._full() and (not self._park() or self._full()):
            return False
        try:
            found = self._consumer.poll(_PER_POLL)
        except OutOfRange as error:  # of any partition: it is its reader that has to tell
            self._lost[error.partition] = error
            return False
        if not found:
            # The other partitions need not ask the same: to ask takes kafka-python half a millisecond.
            self._next_fetch = time.monotonic() + _EMPTY_S
        for partition, chunk in found:
            self._buffers[partition].append(chunk)
            self._waiting[partition] += len(chunk.rows)
        return bool(self._buffers[wanted])

    def _full(self) -> bool:
        return sum(count for each, count in self._waiting.items() if each not in self._parked) >= _MOST_WAITING

    def _park(self) -> bool:
        """Reads no more, for now, of partitions of which records wait and that were not asked for lately; whether
        there were any.
        """
        lately = time.monotonic() - _LATELY_S
        unasked = [each for each, count in self._waiting.items() if count and self._asked[each] < lately]
        parked = [each for each in unasked if each not in self._parked]
        for partition in parked:
            self._consumer.remove(partition)
        self._parked.update(parked)
        return bool(parked)

    def passed(self, partition: Partition) -> int:
        """The offset behind all that was taken, if nothing waits; -1 while something does."""
        return -1 if self._waiting[partition] else self._consumer.passed(partition)

    def close(self) -> None:
        """Lets go of the consumer."""
        self._consumer.close()


def _cut(chunk: Chunk, at: int) -> tuple[Chunk, Chunk]:
    rows, millis, kinds, offsets = chunk
    return Chunk(rows[:at], millis[:at], kinds, offsets[:at]), Chunk(rows[at:], millis[at:], kinds, offsets[at:])


def _joined(chunks: list[Chunk]) -> Chunk:
    whole = Chunk([], [], frozenset().union(*[chunk.kinds for chunk in chunks]), [])
    for rows, millis, _, offsets in chunks:
        whole.rows.extend(rows)
        whole.millis.extend(millis)
        whole.offsets.extend(offsets)
    return whole


class Ends(NamedTuple):
    """Where a partition ended at a time.

    Attributes:
        offset: behind its last record, committed or not.
        asked_ms: when that was asked (ms since the epoch): whatever is behind it was written later.
    """

    offset: int
    asked_ms: int


class Watcher:
    """A thread that asks where partitions end, and commits offsets to a group, so that reading waits for neither.

    Args:
        connect: makes the connection to ask through.
        group: the group that `commit` commits to.
        now_ms: the wall clock (ms since the epoch).
    """

    def __init__(self, connect: Callable[[], BrokerAdmin], group: str | None, now_ms: Callable[[], int]) -> None:
        self._connect = connect
        self._group = group
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._watched: set[Partition] = set()
        self._ends: dict[Partition, Ends] = {}
        self._to_commit: dict[Partition, int] = {}
        self._lost: DataLoss | None = None
        self._complained = self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="sage-kafka-watcher", daemon=True)
        self._thread.start()

    def watch(self, partition: Partition) -> None:
        """Asks where this partition ends from now on."""
        with self._lock:
            self._watched.add(partition)
        self._wake.set()

    def forget(self, partition: Partition) -> None:
        """Asks no more."""
        with self._lock:
            self._watched.discard(partition)
            self._ends.pop(partition, None)

    def ends(self, partition: Partition) -> Ends | None:
        """What the last answer was."""
        return self._ends.get(partition)

    def check(self) -> None:
        """Complains if there is nothing to wait for.

        Raises:
            DataLoss: a topic has been deleted.
        """
        if self._lost is not None:
            raise self._lost

    def commit(self, partition: Partition, offset: int) -> None:
        """Has an offset committed to the group, soon."""
        with self._lock:
            self._to_commit[partition] = offset
        self._wake.set()

    def close(self) -> None:
        """Commits what is to be committed, and ends the thread."""
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        control: BrokerAdmin | None = None
        while True:
            stopped = self._stopped
            try:
                control = control or self._connect()
                self._commit(control)
                if not stopped:
                    self._ask(control)
                self._answered = time.monotonic()
            except Exception as error:
                self._complain(error)
            if stopped:
                break
            self._wake.wait(_WATCH_EVERY_S)
            self._wake.clear()
        if control is not None:
            control.close()

    def _commit(self, control: BrokerAdmin) -> None:
        with self._lock:
            offsets, self._to_commit = self._to_commit, {}
        if not offsets or self._group is None:
            return
        try:
            control.commit_group(self._group, offsets)
        except Exception:
            with self._lock:
                self._to_commit = {**offsets, **self._to_commit}
            raise

    def _ask(self, control: BrokerAdmin) -> None:
        with self._lock:
            watched = frozenset(self._watched)
        asked_ms = self._now_ms()
        found = control.ends(watched, "read_uncommitted")
        with self._lock:
            self._ends.update({each: Ends(end, asked_ms) for each, end in found.items() if each in self._watched})

    def _complain(self, error: Exception) -> None:
        """A broker that is away comes back; a topic that is gone does not."""
        silent_s = time.monotonic() - self._answered
        if type(error).__name__ == "UnknownTopicOrPartitionError" and silent_s > _GONE_AFTER_S:
            self._lost = DataLoss(
                f"a topic that is being read is gone: {error}. Records that were not read yet are lost with it."
            )
        if time.monotonic() - self._complained > _COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            _log.warning("Kafka has not answered for %.0f s, still trying: %s", silent_s, error)


def as_loss(error: OutOfRange, starts: Mapping[Partition, int], ends: Mapping[Partition, int], at: int) -> DataLoss:
    """What to tell when the offset to go on from is not in the log any more."""
    where = error.partition
    return DataLoss(
        f"topic {where.topic!r}, partition {where.number}: offset {at} is to be read next, but the log has only "
        f"{starts.get(where)} to {ends.get(where)}. What is missing was deleted by retention, or the topic was made "
        "anew. To go on without it, begin from a new position: no checkpoint, and a start_read_time or another group."
    )
