"""How fast source and sink are beside a bare loop with the same client: ``python -m tests.kafka.bench``.

Each figure is the best of three runs that take turns, on one core of this process; only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sage.transactions import SinkContext
from sage.transforms.io.kafka import WriteToKafka
from sage.transforms.io.kafka.opening import CLIENTS
from sage.transforms.io.kafka.sink import ExactlyOnce
from sage.transforms.io.kafka.source import KafkaSource, Reading
from tests.kafka.broker import shared
from tests.kafka.cluster import Cluster

PARTITIONS = 4
PER_TRANSACTION = 50_000


def consume_bare(client: str, address: str, topic: str, count: int) -> None:
    """A loop over the client's own consumer that touches key and value."""
    seen = 0
    if client == "confluent-kafka":
        import confluent_kafka

        config = {"bootstrap.servers": address, "group.id": "bench", "enable.auto.commit": False}
        consumer = confluent_kafka.Consumer({**config, "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 5})
        consumer.assign([confluent_kafka.TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
        while seen < count:
            for message in consumer.consume(500, 0.1):
                message.key(), message.value(), message.timestamp()
                seen += 1
        consumer.close()
        return
    import kafka

    consumer = kafka.KafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, max_partition_fetch_bytes=4 << 20, metrics_enabled=False
    )
    consumer.assign([kafka.TopicPartition(topic, n) for n in range(PARTITIONS)])
    consumer.seek_to_beginning()
    while seen < count:
        for records in consumer.poll(timeout_ms=100, max_records=500).values():
            for record in records:
                record.key, record.value, record.timestamp
                seen += 1
    consumer.close()


def consume_ours(client: str, address: str, topic: str, count: int) -> None:
    """The readers of a source, as an engine polls them."""
    config = {"bootstrap.servers": address, "auto.offset.reset": "earliest"}
    source = KafkaSource(Reading(config, (topic,), client=client, policy="CreateTime"))
    source.open()
    readers = [source.reader(split, None) for split in source.splits()]
    seen = 0
    while seen < count:
        found = 0
        for reader in readers:
            batch = reader.poll(4096)
            if batch is not None:
                found += len(batch.values)
                reader.position(), reader.watermark()
        seen += found
        if not found:
            time.sleep(0.001)
    source.close()


def produce_bare(client: str, address: str, topic: str, rows: list[tuple[bytes, bytes]]) -> None:
    """The client's own producer, a transaction for every 50,000 records."""
    name = f"bare-{topic}-{time.time()}"
    if client == "confluent-kafka":
        import confluent_kafka

        producer = confluent_kafka.Producer(
            {"bootstrap.servers": address, "transactional.id": name, "linger.ms": 5, "partitioner": "murmur2_random",
             "queue.buffering.max.messages": 1_000_000}
        )  # fmt: skip
        producer.init_transactions()
        for start in range(0, len(rows), PER_TRANSACTION):
            producer.begin_transaction()
            for key, value in rows[start : start + PER_TRANSACTION]:
                producer.produce(topic, value, key)
            producer.commit_transaction()
        return
    import kafka

    producer = kafka.KafkaProducer(
        bootstrap_servers=address, transactional_id=name, linger_ms=5, batch_size=128 << 10, metrics_enabled=False
    )
    producer.init_transactions()
    for start in range(0, len(rows), PER_TRANSACTION):
        producer.begin_transaction()
        for key, value in rows[start : start + PER_TRANSACTION]:
            producer.send(topic, value, key)
        producer.commit_transaction()
    producer.close()


def produce_ours(client: str, address: str, topic: str, rows: list[tuple[bytes, bytes]]) -> None:
    """The sink, prepared and committed for every 50,000 records."""
    writer = ExactlyOnce(WriteToKafka({"bootstrap.servers": address}, topic, exactly_once=True, client=client).writing)
    writer.manage()
    writer.setup()
    writer.recover(SinkContext(f"{topic}-{time.time()}", "bench"), ())
    for epoch, start in enumerate(range(0, len(rows), PER_TRANSACTION)):
        for row in rows[start : start + PER_TRANSACTION]:
            writer.process(row)
        writer.commit(writer.prepare(epoch))
    writer.teardown()


def best(*runs: Callable[[], Any]) -> list[float]:
    """The shortest time (seconds) of each, of three rounds in which they take turns."""
    times = [float("inf")] * len(runs)
    for _ in range(3):
        for number, run in enumerate(runs):
            start = time.perf_counter()
            run()
            times[number] = min(times[number], time.perf_counter() - start)
    return times


def measure(client: str, cluster: Cluster, rows: list[tuple[bytes, bytes]]) -> None:
    """Prints how one client writes and reads these rows, bare and here."""
    address, topic, count = cluster.address, cluster.topic(PARTITIONS), len(rows)
    bare, ours = best(
        lambda: produce_bare(client, address, topic, rows),
        lambda: produce_ours(client, address, topic, rows),
    )
    print(f"{client} write: bare {count / bare:,.0f}/s, sage {count / ours:,.0f}/s, ratio {bare / ours:.2f}")
    bare, ours = best(
        lambda: consume_bare(client, address, topic, count),
        lambda: consume_ours(client, address, topic, count),
    )
    print(f"{client} read:  bare {count / bare:,.0f}/s, sage {count / ours:,.0f}/s, ratio {bare / ours:.2f}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.bench")
    parser.add_argument("--records", type=int, default=1_000_000, help="how many, for the faster client (count)")
    asked = parser.parse_args(arguments)
    address = os.environ.get("SAGE_TEST_KAFKA", "")
    with tempfile.TemporaryDirectory() as folder:
        if not address:
            address, _lease = shared(Path(folder))
        cluster = Cluster(address)
        for client in CLIENTS:
            count = asked.records if client == "confluent-kafka" else asked.records // 5
            measure(client, cluster, [(b"key-%05d" % (n % 1000), b"%0100d" % n) for n in range(count)])
        cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
