"""The seam to the Kafka clients: what reads and writes records, in terms that each client can keep.

kafka-python is the default: pure Python, nothing to build. confluent-kafka (librdkafka) is several times faster. A
client moves records; everything else (offsets, groups, what a transaction has come to) is asked of the broker through
kafka-python, whichever client moves them (`sage.transforms.io.kafka.admin`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from sage.transforms.io.kafka.records import KafkaRecord

__all__ = ["Chunk", "Consumer", "OutOfRange", "Partition", "Producer", "WriteFailed"]


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


class OutOfRange(Exception):
    """A position is not in the partition's log.

    Attributes:
        partition: which one.
    """

    def __init__(self, partition: Partition) -> None:
        super().__init__(str(partition))
        self.partition = partition


class Chunk(NamedTuple):
    """Records of one partition, column by column.

    Attributes:
        rows: pairs of key and value as bytes, or `KafkaRecord` with the two as bytes.
        millis: the timestamp of each (ms since the epoch); empty if they were not asked for.
        kinds: what the timestamps are, as Kafka numbers it; likewise.
        offsets: the offset of each.
    """

    rows: list[Any]
    millis: list[int]
    kinds: frozenset[int]
    offsets: list[int]


class Consumer(Protocol):
    """Reads the partitions it is given, each from an offset.

    Used by one thread. `poll` raises `OutOfRange`; a broker that does not answer is no error: `poll` gives nothing.
    """

    def add(self, partition: Partition, offset: int) -> None:
        """Reads this partition, too."""

    def remove(self, partition: Partition) -> None:
        """Reads this partition no more."""

    def poll(self, limit: int) -> Sequence[tuple[Partition, Chunk]]:
        """What is here now, at most ``limit`` records (count), in order in each partition. Does not wait."""

    def passed(self, partition: Partition) -> int:
        """The offset behind all that was polled, and behind what follows it that is no record (markers, aborted)."""

    def close(self) -> None:
        """Lets go of the connections."""


class Producer(Protocol):
    """Writes records, in transactions if it has a transactional id. Used by one thread.

    Errors of single records are kept and raised by `flush`.
    """

    def begin(self) -> None:
        """Begins a transaction."""

    def send(self, topic: str, rows: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """Writes key-value pairs."""

    def send_record(self, record: KafkaRecord) -> None:
        """Writes a record with its headers; a partition or timestamp of -1 is chosen."""

    def flush(self, timeout_s: float) -> None:
        """Returns when all that was sent is acknowledged.

        Raises:
            WriteFailed: a record was refused, or the broker did not answer in time.
        """

    def init_transactions(self, timeout_s: float) -> None:
        """Fences whoever had the transactional id before."""

    def commit(self, timeout_s: float) -> None:
        """Commits the transaction."""

    def close(self) -> None:
        """Lets go of the connections; what is not flushed is dropped."""


class WriteFailed(Exception):
    """Records could not be written; the message says which topic, and why."""
