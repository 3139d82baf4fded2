"""The job from Kafka to Kafka, as the chaos driver sees it: topics of its own, fed while it runs."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter

from kafka import KafkaProducer

from tests.kafka.cluster import Cluster
from tests.recovery.chaos_jobs import BASE_MS, expected_join, orders, payments

PARTITIONS = 2
PER_SECOND = 700


class ToKafka:
    """State: a thread that writes the orders and payments at their pace, and records that end every window.

    Args:
        address: the broker, ``host:port``.
        client: what the job reads and writes with.
        upto: how many orders there are (count).
    """

    name = "kafka"
    endless = True

    def __init__(self, address: str, client: str, upto: int = 6_000) -> None:
        self._address = address
        self._client = client
        self._upto = upto
        self._cluster = Cluster(address)
        self.topic = self._cluster.topic(PARTITIONS, f"chaos-{uuid.uuid4().hex[:8]}")
        for side in ("orders", "payments"):
            self._cluster.topic(PARTITIONS, f"{self.topic}-{side}")
        self._over = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def _feed(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self._address, linger_ms=5)
        rows = [(at, "orders", number, value) for number, at, value in orders(self._upto)]
        rows += [(at, "payments", number, value) for number, at, value in payments(self._upto)]
        began = time.monotonic()
        for count, (at, side, number, value) in enumerate(sorted(rows)):
            if count % 50 == 0 and self._over.wait(max(0.0, began + count / PER_SECOND - time.monotonic())):
                break
            producer.send(
                f"{self.topic}-{side}", key=b"%d" % number, value=value, timestamp_ms=at, partition=number % PARTITIONS
            )
        for side in ("orders", "payments"):
            for partition in range(PARTITIONS):
                end = BASE_MS + self._upto + 3_600_000
                producer.send(f"{self.topic}-{side}", key=b"end", value=b"end", timestamp_ms=end, partition=partition)
        producer.flush()
        producer.close()

    def arguments(self) -> list[str]:
        return [self.name, "0", "0", f"{self._address}/{self.topic}/{self._client}"]

    def output(self) -> Counter[str]:
        return Counter(value.decode() for value in self._cluster.values(self.topic))

    def expected(self) -> Counter[str]:
        return Counter(row.decode() for row in expected_join(self._upto))

    def close(self) -> None:
        self._over.set()
        self._feeder.join()
        self._cluster.admin.delete_topics([self.topic, f"{self.topic}-orders", f"{self.topic}-payments"])
        self._cluster.close()
