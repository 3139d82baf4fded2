"""Records through confluent-kafka 2, which is librdkafka: several times faster than pure Python."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sage.transforms.io.kafka.clients import Chunk, OutOfRange, Partition, WriteFailed
from sage.transforms.io.kafka.config import for_confluent
from sage.transforms.io.kafka.records import (
    CREATE_TIME,
    LOG_APPEND_TIME,
    NO_TIMESTAMP,
    KafkaHeader,
    KafkaRecord,
    timestamp_type_name,
)

__all__ = ["ConfluentConsumer", "ConfluentProducer"]

_BASE = {"reconnect.backoff.max.ms": 1_000}  # by default a broker is tried again after 10 s, however soon it is back
_SENDS_PER_POLL = 2_000
_FULL_QUEUE_WAIT_S = 0.1
_KIND, _TIME = operator.itemgetter(0), operator.itemgetter(1)


class ConfluentConsumer:
    """A `Consumer` on confluent-kafka's."""

    def __init__(self, config: Mapping[str, str], whole: bool, timed: bool) -> None:
        import confluent_kafka

        # With a full queue it waits for a second by default before it fetches again, however fast the queue is read.
        given: dict[str, Any] = {"fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 5, **_BASE}
        given.update(for_confluent(config, producer=False))
        # It demands a group; none is joined and nothing is committed to it.
        given.setdefault("group.id", config.get("group.id", "unused"))
        given.update({"enable.auto.commit": False, "enable.auto.offset.store": False, "enable.partition.eof": True})
        # A position that is gone is an error, not a jump to another one.
        given.update({"auto.offset.reset": "error", "allow.auto.create.topics": False})
        self._kafka = confluent_kafka
        self._consumer = confluent_kafka.Consumer(given, logger=_quiet())
        self._message = confluent_kafka.Message
        self._passed: dict[Partition, int] = {}
        self._topics: set[str] = set()
        self._whole = whole
        self._timed = timed
        self._kinds = {
            confluent_kafka.TIMESTAMP_CREATE_TIME: CREATE_TIME,
            confluent_kafka.TIMESTAMP_LOG_APPEND_TIME: LOG_APPEND_TIME,
        }

    def _at(self, partition: Partition, offset: int = -1001) -> list[Any]:
        return [self._kafka.TopicPartition(partition.topic, partition.number, offset)]

    def add(self, partition: Partition, offset: int) -> None:
        self._passed[partition] = offset
        self._topics.add(partition.topic)
        self._consumer.incremental_assign(self._at(partition, offset))

    def remove(self, partition: Partition) -> None:
        if self._passed.pop(partition, None) is not None:
            self._consumer.incremental_unassign(self._at(partition))

    def poll(self, limit: int) -> Sequence[tuple[Partition, Chunk]]:
        messages = self._consumer.consume(limit, 0) if self._passed else []
        events = list(filter(self._message.error, messages))
        if events:
            messages = list(itertools.filterfalse(self._message.error, messages))
            for event in events:
                self._heed(event)
        if not messages:
            return ()
        found = []
        for (topic, number), run in self._runs(messages):
            partition = Partition(topic, number)
            # What a partition still had in the queue when it was taken away is nobody's.
            if partition in self._passed:
                chunk = self._chunk(run)
                self._passed[partition] = max(self._passed[partition], chunk.offsets[-1] + 1)
                found.append((partition, chunk))
        return found

    def _runs(self, messages: list[Any]) -> Iterable[tuple[tuple[str, int], list[Any]]]:
        """The messages by partition, as long as they are of the same one."""
        places: Iterable[Any] = map(self._message.partition, messages)
        if len(self._topics) > 1:
            places = zip(map(self._message.topic, messages), places, strict=True)
        begin = 0
        for _, run in itertools.groupby(places):
            end = begin + len(list(run))
            first = messages[begin]
            yield (first.topic(), first.partition()), messages[begin:end]
            begin = end

    def _chunk(self, messages: list[Any]) -> Chunk:
        message, kinds = self._message, self._kinds
        stamps = list(map(message.timestamp, messages)) if self._timed or self._whole else []
        rows: list[Any]
        if self._whole:
            rows = [_record(each, kinds, *stamp) for each, stamp in zip(messages, stamps, strict=True)]
        else:
            rows = list(zip(map(message.key, messages), map(message.value, messages), strict=True))
        return Chunk(
            rows,
            list(map(_TIME, stamps)),
            frozenset([kinds.get(kind, NO_TIMESTAMP) for kind in set(map(_KIND, stamps))]),
            list(map(message.offset, messages)),
        )

    def _heed(self, message: Any) -> None:
        """What comes among the messages and is none: a partition's end was reached, or something went wrong."""
        error = message.error()
        partition = Partition(message.topic() or "", -1 if message.partition() is None else message.partition())
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
            if partition in self._passed:
                self._passed[partition] = max(self._passed[partition], message.offset())
        elif error.code() in (self._kafka.KafkaError._AUTO_OFFSET_RESET, self._kafka.KafkaError.OFFSET_OUT_OF_RANGE):
            raise OutOfRange(partition)
        elif error.fatal():
            raise self._kafka.KafkaException(error)

    def passed(self, partition: Partition) -> int:
        return self._passed[partition]

    def close(self) -> None:
        self._consumer.close()


def _record(message: Any, kinds: Mapping[int, int], theirs: int, time: int) -> KafkaRecord:
    kind = kinds.get(theirs, NO_TIMESTAMP)
    headers = tuple(KafkaHeader(key, value) for key, value in message.headers() or ())
    place = message.topic(), message.partition(), message.offset()
    return KafkaRecord(*place, time, kind, timestamp_type_name(kind), message.key(), message.value(), headers)


class ConfluentProducer:
    """A `Producer` on confluent-kafka's."""

    def __init__(self, config: Mapping[str, str], transactional_id: str | None) -> None:
        import confluent_kafka

        given: dict[str, Any] = {
            **_BASE,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            # The same key goes to the same partition as from Java and kafka-python.
            "partitioner": "murmur2_random",
        }
        given.update(for_confluent(config, producer=True))
        given.update({"allow.auto.create.topics": False, "delivery.report.only.error": True})
        given.setdefault("enable.idempotence", config.get("acks", "all") in ("all", "-1"))
        if transactional_id is not None:
            given["transactional.id"] = transactional_id
        self._failed: list[str] = []
        given["on_delivery"] = self._on_delivery
        self._kafka = confluent_kafka
        self._producer = confluent_kafka.Producer(given, logger=_quiet())
        self._sends = 0

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(f"topic {message.topic()!r}: {error.str()}")

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, rows: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        produce = self._producer.produce
        try:
            for key, value in rows:
                try:
                    produce(topic, value, key)
                except BufferError:
                    self._wait_and(produce, topic, value, key)
        except self._kafka.KafkaException as error:
            raise WriteFailed(f"topic {topic!r}: {error}") from error
        self._sent(len(rows))

    def _wait_and(self, produce: Callable[..., None], *message: Any, **where: Any) -> None:
        """The queue is full: what is in it has to go first."""
        while True:
            self._poll(_FULL_QUEUE_WAIT_S)
            with contextlib.suppress(BufferError):
                return produce(*message, **where)

    def _sent(self, count: int) -> None:
        """Lets the client tell, now and then, what has failed: only that is told."""
        self._sends += count
        if self._sends >= _SENDS_PER_POLL:
            self._sends = 0
            self._poll(0)

    def _poll(self, wait_s: float) -> None:
        try:
            self._producer.poll(wait_s)
        except (self._kafka.KafkaException, SystemError) as error:
            # A fatal error comes out of whatever is called next; in the middle of a callback, as a SystemError.
            raise WriteFailed(str(error.__cause__ or error)) from error

    def send_record(self, record: KafkaRecord) -> None:
        where: dict[str, Any] = {}
        if record.partition >= 0:
            where["partition"] = record.partition
        if record.timestamp >= 0:
            where["timestamp"] = record.timestamp
        headers = [(header.key, header.value) for header in record.headers]
        message = record.topic, record.value, record.key
        try:
            try:
                self._producer.produce(*message, headers=headers, **where)
            except BufferError:
                self._wait_and(self._producer.produce, *message, headers=headers, **where)
        except self._kafka.KafkaException as error:
            raise WriteFailed(f"topic {record.topic!r}: {error}") from error
        self._sent(1)

    def flush(self, timeout_s: float) -> None:
        try:
            left = self._producer.flush(timeout_s)
        except (self._kafka.KafkaException, SystemError) as error:
            raise WriteFailed(str(error.__cause__ or error)) from error
        failed, self._failed = self._failed, []
        if failed:
            raise WriteFailed(f"{failed[0]} ({len(failed)} records)")
        if left:
            raise WriteFailed(f"the broker did not acknowledge {left} records within {timeout_s:.0f} s")

    def init_transactions(self, timeout_s: float) -> None:
        self._producer.init_transactions(timeout_s)

    def commit(self, timeout_s: float) -> None:
        self._producer.commit_transaction(timeout_s)

    def close(self) -> None:
        self._producer.purge()
        # Its close() would abort what is prepared; without the last reference it only goes.
        del self._producer


def _quiet() -> Any:
    """librdkafka writes to stderr by itself; here its lines go where all others go."""
    import logging

    return logging.getLogger("sage.kafka.librdkafka")
