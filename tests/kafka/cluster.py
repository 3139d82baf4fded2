"""What the tests ask of a broker: a topic of their own, records in it, and what a reader would see."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import RetriableError

from tests.patience import patience

__all__ = ["Cluster"]

_SEEN_WITHIN_S = patience(30.0)


class Cluster:
    """A broker, by its ``host:port``.

    Attributes:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.admin = KafkaAdminClient(bootstrap_servers=address, reconnect_backoff_max_ms=500)

    def topic(self, partitions: int = 1, name: str | None = None, **config: str) -> str:
        """A new topic, and its name. It keeps what is written to it, however old the times of the records are."""
        name = name or f"t{uuid.uuid4().hex[:12]}"
        kept = {"retention.ms": "-1", **config}
        self.admin.create_topics([NewTopic(name, partitions, 1, topic_configs=kept)])
        self.admin.wait_for_topics([name])
        return name

    def produce(self, topic: str, rows: Iterable[tuple[Any, Any]], **where: Any) -> None:
        """Writes records; ``where`` is a partition, a ``timestamp_ms``, headers."""
        producer = KafkaProducer(
            bootstrap_servers=self.address, linger_ms=5, bootstrap_timeout_ms=90_000, reconnect_backoff_max_ms=500
        )
        try:
            futures = [producer.send(topic, key=key, value=value, **where) for key, value in rows]
            producer.flush()
            for future in futures:
                future.get(timeout=patience(30))
        finally:
            producer.close()

    def read(self, topic: str, isolation: str = "read_committed") -> list[Any]:
        """All records that a new reader sees now, partition by partition."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.address, isolation_level=isolation, enable_auto_commit=False, fetch_max_wait_ms=50
        )
        try:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = self.ends(topic, isolation)
            found: dict[Any, list[Any]] = {partition: [] for partition in partitions}
            deadline = time.monotonic() + _SEEN_WITHIN_S
            while any(consumer.position(partition) < ends[partition] for partition in partitions):
                assert time.monotonic() < deadline, f"{topic} cannot be read to its end {ends}"
                for partition, records in consumer.poll(timeout_ms=100, max_records=50_000).items():
                    found[partition] += records
            return [record for partition in partitions for record in found[partition]]
        finally:
            consumer.close()

    def values(self, topic: str, isolation: str = "read_committed") -> list[Any]:
        """The values of `read`."""
        return [record.value for record in self.read(topic, isolation)]

    def ends(self, topic: str, isolation: str = "read_committed") -> dict[Any, int]:
        """Where each partition ends now, for a reader of this isolation level."""
        described = self._asked(lambda admin: admin.describe_topics([topic]))[0]
        asked = {TopicPartition(topic, each["partition_index"]): -1 for each in described["partitions"]}
        found = self._asked(lambda admin: admin.list_partition_offsets(asked, isolation_level=isolation))
        return {partition: end.offset for partition, end in found.items()}

    def committed(self, group: str) -> dict[Any, int]:
        """The offsets that a group has committed."""
        offsets = self._asked(lambda admin: admin.list_group_offsets({group: None}))[group]
        return {partition: found.offset for partition, found in offsets.items()}

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        """An answer of the broker, which may just be coming back."""
        deadline = time.monotonic() + _SEEN_WITHIN_S
        while True:
            try:
                return question(self.admin)
            except RetriableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        self.admin.close()
