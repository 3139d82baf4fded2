"""Records through confluent-kafka 2, which is librdkafka: several times faster than pure Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sage.transforms.io.kafka.clients import OutOfRange, Partition, WriteFailed, in_runs
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

_SENDS_PER_POLL = 1_000
_FULL_QUEUE_WAIT_S = 0.1


class ConfluentConsumer:
    """A `Consumer` on confluent-kafka's. Its messages are ``Message``."""

    def __init__(self, config: Mapping[str, str]) -> None:
        import confluent_kafka

        given: dict[str, Any] = {"fetch.wait.max.ms": 100}
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
        self._known: dict[tuple[str, int], Partition] = {}
        self._kinds = {
            confluent_kafka.TIMESTAMP_CREATE_TIME: CREATE_TIME,
            confluent_kafka.TIMESTAMP_LOG_APPEND_TIME: LOG_APPEND_TIME,
        }

    def _at(self, partition: Partition, offset: int = -1001) -> list[Any]:
        return [self._kafka.TopicPartition(partition.topic, partition.number, offset)]

    def add(self, partition: Partition, offset: int) -> None:
        self._known[tuple(partition)] = partition  # type: ignore[index]
        self._passed[partition] = offset
        self._consumer.incremental_assign(self._at(partition, offset))

    def remove(self, partition: Partition) -> None:
        if self._passed.pop(partition, None) is not None:
            self._consumer.incremental_unassign(self._at(partition))

    def pause(self, partition: Partition) -> None:
        self._consumer.pause(self._at(partition))

    def resume(self, partition: Partition) -> None:
        self._consumer.resume(self._at(partition))

    def poll(self, limit: int) -> Mapping[Partition, list[Any]]:
        if not self._passed:
            return {}
        messages = self._consumer.consume(limit, 0)
        if not messages:
            return {}
        if any(map(self._message.error, messages)):
            messages = [message for message in messages if not self._is_event(message)]
        topics = map(self._message.topic, messages)
        numbers = map(self._message.partition, messages)
        found = in_runs(list(zip(topics, numbers, strict=True)), messages)  # type: ignore[arg-type]
        # What a partition still had in the queue when it was taken away is nobody's.
        given = {self._known[each]: rows for each, rows in found.items()}
        given = {partition: rows for partition, rows in given.items() if partition in self._passed}
        for partition, rows in given.items():
            self._passed[partition] = max(self._passed[partition], rows[-1].offset() + 1)
        return given

    def _is_event(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return False
        partition = Partition(message.topic() or "", -1 if message.partition() is None else message.partition())
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
            if partition in self._passed:
                self._passed[partition] = max(self._passed[partition], message.offset())
        elif error.code() in (self._kafka.KafkaError._AUTO_OFFSET_RESET, self._kafka.KafkaError.OFFSET_OUT_OF_RANGE):
            raise OutOfRange(partition)
        elif error.fatal():
            raise self._kafka.KafkaException(error)
        return True

    def passed(self, partition: Partition) -> int:
        return self._passed[partition]

    def offsets(self, messages: Sequence[Any]) -> list[int]:
        return list(map(self._message.offset, messages))

    def pairs(self, messages: Sequence[Any]) -> list[tuple[bytes | None, bytes | None]]:
        return list(zip(map(self._message.key, messages), map(self._message.value, messages), strict=True))

    def timestamps(self, messages: Sequence[Any]) -> list[tuple[int, int]]:
        kinds = self._kinds
        return [(kinds.get(kind, NO_TIMESTAMP), time) for kind, time in map(self._message.timestamp, messages)]

    def records(self, messages: Sequence[Any]) -> list[KafkaRecord]:
        times = self.timestamps(messages)
        return [_record(message, *time) for message, time in zip(messages, times, strict=True)]

    def close(self) -> None:
        self._consumer.close()


def _record(message: Any, kind: int, time: int) -> KafkaRecord:
    headers = tuple(KafkaHeader(key, value) for key, value in message.headers() or ())
    place = message.topic(), message.partition(), message.offset()
    return KafkaRecord(*place, time, kind, timestamp_type_name(kind), message.key(), message.value(), headers)


class ConfluentProducer:
    """A `Producer` on confluent-kafka's."""

    def __init__(self, config: Mapping[str, str], transactional_id: str | None) -> None:
        import confluent_kafka

        given: dict[str, Any] = {
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
        given["on_delivery"] = self._told
        self._kafka = confluent_kafka
        self._producer = confluent_kafka.Producer(given, logger=_quiet())
        self._sends = 0

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(f"topic {message.topic()!r}: {error.str()}")

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, rows: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        produce = self._producer.produce
        done = 0
        while done < len(rows):
            try:
                for key, value in rows[done:]:
                    produce(topic, value, key)
                    done += 1
            except BufferError:
                self._poll(_FULL_QUEUE_WAIT_S)
            except self._kafka.KafkaException as error:
                raise WriteFailed(f"topic {topic!r}: {error}") from error
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
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, headers=headers, **where)
                break
            except BufferError:
                self._poll(_FULL_QUEUE_WAIT_S)
            except self._kafka.KafkaException as error:
                raise WriteFailed(f"topic {record.topic!r}: {error}") from error
        self._sends += 1
        if self._sends % _SENDS_PER_POLL == 0:
            self._poll(0)

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
