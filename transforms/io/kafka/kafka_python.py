"""Records through kafka-python 3."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sage.transforms.io.kafka.clients import Chunk, OutOfRange, Partition, WriteFailed
from sage.transforms.io.kafka.config import for_kafka_python
from sage.transforms.io.kafka.records import KafkaHeader, KafkaRecord, timestamp_type_name

__all__ = ["PythonConsumer", "PythonProducer"]

_CLOSE_S = 1.0
_FUTURES = 4_000
# By default it waits for up to 30 s before it tries a broker again, however soon that is back.
_BASE = {"metrics_enabled": False, "reconnect_backoff_max_ms": 1_000}


class PythonConsumer:
    """A `Consumer` on kafka-python's ``KafkaConsumer``."""

    def __init__(self, config: Mapping[str, str], whole: bool, timed: bool) -> None:
        import kafka

        given: dict[str, Any] = {"fetch_max_wait_ms": 100, "max_partition_fetch_bytes": 4 << 20, **_BASE}
        given.update(for_kafka_python(config, kafka.KafkaConsumer.DEFAULT_CONFIG))
        # A position that is gone is an error, not a jump to another one.
        given.update(enable_auto_commit=False, auto_offset_reset="none", allow_auto_create_topics=False)
        self._consumer = kafka.KafkaConsumer(**given)
        self._whole = whole
        self._timed = timed
        self._errors = kafka.errors
        self._partition = kafka.TopicPartition
        self._all: dict[Any, Partition] = {}

    def add(self, partition: Partition, offset: int) -> None:
        theirs = self._partition(*partition)
        self._all[theirs] = partition
        self._consumer.assign(list(self._all))
        self._consumer.seek(theirs, offset)

    def remove(self, partition: Partition) -> None:
        self._all.pop(self._partition(*partition), None)
        self._consumer.assign(list(self._all))

    def poll(self, limit: int) -> Sequence[tuple[Partition, Chunk]]:
        if not self._all:
            return ()
        try:
            found = self._consumer.poll(timeout_ms=0, max_records=limit)
        except self._errors.OffsetOutOfRangeError as error:
            raise OutOfRange(self._all[next(iter(error.args[0]))]) from error
        return [(self._all[theirs], self._chunk(messages)) for theirs, messages in found.items()]

    def _chunk(self, messages: list[Any]) -> Chunk:
        return Chunk(
            [_record(each) for each in messages] if self._whole else [(each.key, each.value) for each in messages],
            [each.timestamp for each in messages] if self._timed else [],
            frozenset([each.timestamp_type for each in messages] if self._timed else ()),
            [each.offset for each in messages],
        )

    def passed(self, partition: Partition) -> int:
        return int(self._consumer.position(self._partition(*partition), timeout_ms=1_000) or 0)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=round(_CLOSE_S * 1000))


def _record(message: Any) -> KafkaRecord:
    headers = tuple(KafkaHeader(key, value) for key, value in message.headers or ())
    kind = message.timestamp_type
    place = message.topic, message.partition, message.offset
    return KafkaRecord(*place, message.timestamp, kind, timestamp_type_name(kind), message.key, message.value, headers)


class _Null(bytes):
    """Stands for a header's value that is None, which the client can write but refuses to take."""


_NULL = _Null()


@functools.cache
def _write_headers_without_value() -> None:
    """Has the client write `_NULL` as a value that is not there. Its own check, and what it counts, see empty bytes."""
    from kafka.record.default_records import DefaultRecordBatchBuilder as Builder

    append = Builder.append

    def translated(self: Any, offset: int, timestamp: Any, key: Any, value: Any, headers: Any, **more: Any) -> Any:
        if headers:
            headers = [(name, None if each is _NULL else each) for name, each in headers]
        return append(self, offset, timestamp, key, value, headers, **more)

    Builder.append = translated


class PythonProducer:
    """A `Producer` on kafka-python's ``KafkaProducer``."""

    def __init__(self, config: Mapping[str, str], transactional_id: str | None) -> None:
        import kafka

        from sage.transforms.io.kafka.partitioning import remembering

        given: dict[str, Any] = {"linger_ms": 5, "batch_size": 128 << 10, **_BASE}
        given["partitioner"] = remembering()
        given.update(for_kafka_python(config, kafka.KafkaProducer.DEFAULT_CONFIG))
        given.update(allow_auto_create_topics=False, transactional_id=transactional_id)
        self._producer = kafka.KafkaProducer(**given)
        self._errors = kafka.errors
        self._futures: list[Any] = []
        self._too_many = _FUTURES

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, rows: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        send = self._producer.send
        try:
            self._futures += [send(topic, value, key) for key, value in rows]
        except (self._errors.KafkaError, ValueError) as error:
            raise WriteFailed(f"topic {topic!r}: {error}") from error
        if len(self._futures) > self._too_many:
            self._futures = [future for future in self._futures if not future.succeeded()]
            self._too_many = max(_FUTURES, 2 * len(self._futures))

    def send_record(self, record: KafkaRecord) -> None:
        where: dict[str, Any] = {}
        if record.partition >= 0:
            where["partition"] = record.partition
        if record.timestamp >= 0:
            where["timestamp_ms"] = record.timestamp
        headers = [(header.key, header.value) for header in record.headers]
        if any(value is None for _, value in headers):
            _write_headers_without_value()
            headers = [(key, _NULL if value is None else value) for key, value in headers]
        try:
            self._futures.append(
                self._producer.send(record.topic, value=record.value, key=record.key, headers=headers, **where)
            )
        except AssertionError as error:
            raise WriteFailed(f"topic {record.topic!r}: there is no partition {record.partition}") from error
        except (self._errors.KafkaError, ValueError) as error:
            raise WriteFailed(f"topic {record.topic!r}: {error}") from error

    def flush(self, timeout_s: float) -> None:
        try:
            self._producer.flush(timeout=timeout_s)
        except self._errors.KafkaError as error:
            raise WriteFailed(str(error)) from error
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.is_done:
                raise WriteFailed(f"the broker did not acknowledge within {timeout_s:.0f} s")
            if future.exception is not None:
                raise WriteFailed(repr(future.exception)) from future.exception

    def init_transactions(self, timeout_s: float) -> None:
        self._producer.init_transactions()

    def commit(self, timeout_s: float) -> None:
        # commit_transaction() waits for ever for a broker that is away.
        result = self._producer._transaction_manager.begin_commit()
        self._producer._sender.wakeup()
        if not result.wait(timeout_ms=timeout_s * 1000):
            raise TimeoutError(f"the broker did not answer within {timeout_s:.0f} s")

    def close(self) -> None:
        try:
            self._producer.close(timeout=_CLOSE_S)
        except self._errors.KafkaError:
            self._producer._sender.force_close()  # else it would go on sending what is left
