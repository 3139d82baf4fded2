"""Kafka to Kafka through a count per key, exactly once, beside bare loops with the same client.

``python -m tests.kafka.throughput``: ``usual`` is the loop of the client's own example, ``bare`` one that reads and
writes as fast as we know how, ``sage`` the job; in brackets what the job reaches of each. Each is a process of its own
that commits once a second. What counts is the records that a ``read_committed`` reader sees, from the first commit to
the last. Only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sage.transforms.io.kafka.opening import CLIENTS
from tests.kafka.bench import PARTITIONS, produce_bare
from tests.kafka.broker import shared
from tests.kafka.cluster import Cluster

KEYS = 1_000
SENT_AT = b"sent "
COMMIT_S = 1.0
WARM_UP_S, LATENCY_S = 5.0, 15.0


def run_sage(client: str, address: str, source: str, target: str, folder: str, interval: str) -> None:
    """The job, until it is killed."""
    import apache_beam as beam
    from apache_beam.coders import VarIntCoder
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

    from sage.runners.local import LocalRunner
    from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka

    class Count(beam.DoFn):
        COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())

        def process(self, row: Any, state: Any = beam.DoFn.StateParam(COUNT)) -> Any:
            count = (state.read() or 0) + 1
            state.write(count)
            return [row if row[1].startswith(SENT_AT) else (row[0], b"%d" % count)]

    options = PipelineOptions(
        [], job_name=f"bench-{target}", checkpoint_dir=folder, checkpoint_interval=interval, streaming=True
    )
    pipeline = beam.Pipeline(LocalRunner(), options=options)
    config = {"bootstrap.servers": address, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    rows = pipeline | ReadFromKafka(config, [source], timestamp_policy="CreateTime", client=client)
    counted = rows | "Count" >> beam.ParDo(Count())
    counted | WriteToKafka({"bootstrap.servers": address}, target, exactly_once=True, client=client)
    pipeline.run().wait_until_finish()


def run_bare(client: str, address: str, source: str, target: str, *_: str) -> None:
    """Consume, count, produce, and commit offsets and records in one transaction; until it is killed."""
    (bare_confluent if client == "confluent-kafka" else bare_python)(address, source, target)


def run_usual(client: str, address: str, source: str, target: str, *_: str) -> None:
    """The same as the client's own example of it has it: message by message, with the settings it comes with."""
    if client == "confluent-kafka":
        bare_confluent(address, source, target, one_by_one=True)
    bare_python(address, source, target)


def bare_confluent(address: str, source: str, target: str, one_by_one: bool = False) -> None:
    import confluent_kafka

    config = {"bootstrap.servers": address, "group.id": target, "enable.auto.commit": False}
    config["isolation.level"] = "read_committed"
    if not one_by_one:
        config |= {"fetch.queue.backoff.ms": 5, "fetch.wait.max.ms": 100}
    consumer = confluent_kafka.Consumer(config)
    consumer.assign([confluent_kafka.TopicPartition(source, n, 0) for n in range(PARTITIONS)])
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": address, "transactional.id": target, "linger.ms": 5, "partitioner": "murmur2_random",
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    producer.init_transactions()
    counts: dict[bytes, int] = {}
    while True:
        producer.begin_transaction()
        ends = time.monotonic() + COMMIT_S
        offsets = {}
        while time.monotonic() < ends:
            if one_by_one:
                producer.poll(0)
                message = consumer.poll(0.01)
                messages = [] if message is None else [message]
            else:
                messages = consumer.consume(500, 0.01)
            for message in messages:
                key = message.key()
                message.value(), message.timestamp()
                counts[key] = count = counts.get(key, 0) + 1
                producer.produce(target, b"%d" % count, key)
                offsets[message.partition()] = message.offset() + 1
            producer.poll(0)
        done = [confluent_kafka.TopicPartition(source, n, offset) for n, offset in offsets.items()]
        producer.send_offsets_to_transaction(done, consumer.consumer_group_metadata())
        producer.commit_transaction()


def bare_python(address: str, source: str, target: str) -> None:
    import kafka

    consumer = kafka.KafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, max_partition_fetch_bytes=4 << 20, metrics_enabled=False,
        isolation_level="read_committed",
    )  # fmt: skip
    consumer.assign([kafka.TopicPartition(source, n) for n in range(PARTITIONS)])
    consumer.seek_to_beginning()
    producer = kafka.KafkaProducer(
        bootstrap_servers=address, transactional_id=target, linger_ms=5, batch_size=128 << 10, metrics_enabled=False
    )
    producer.init_transactions()
    counts: dict[bytes, int] = {}
    while True:
        producer.begin_transaction()
        ends = time.monotonic() + COMMIT_S
        offsets = {}
        while time.monotonic() < ends:
            for partition, records in consumer.poll(timeout_ms=10, max_records=500).items():
                for record in records:
                    counts[record.key] = count = counts.get(record.key, 0) + 1
                    producer.send(target, b"%d" % count, record.key)
                offsets[partition] = kafka.OffsetAndMetadata(records[-1].offset + 1, "", -1)
        producer.send_offsets_to_transaction(offsets, target)
        producer.commit_transaction()


def rate(what: str, client: str, cluster: Cluster, source: str, count: int, interval: str) -> float:
    """Records a second (count) that come out of one of the two."""
    target = cluster.topic(PARTITIONS)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.kafka.throughput", "--child", what, client, cluster.address]
        child = subprocess.Popen([*command, source, target, folder, interval])
        seen, began, first, at = 0, 0.0, 0, time.monotonic()
        try:
            while seen < count * 0.98:  # offsets are counted, markers too
                time.sleep(0.05)
                if child.poll() is not None or time.monotonic() - at > 120:
                    raise SystemExit(f"{what} with {client} came to {seen} of {count}")
                now = sum(cluster.ends(target).values())
                if now > seen:
                    seen, at = now, time.monotonic()
                    if not began:
                        began, first = at, now
        finally:
            child.kill()
            child.wait()
    return (seen - first) / (at - began)


def latency(client: str, cluster: Cluster, per_second: int, interval: str) -> list[float]:
    """How long (ms) records take from the producer through the job to a ``read_committed`` reader, sorted."""
    import confluent_kafka

    source, target = cluster.topic(PARTITIONS), cluster.topic(PARTITIONS)
    servers = {"bootstrap.servers": cluster.address}
    reader = confluent_kafka.Consumer(
        {**servers, "group.id": target, "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
    )
    reader.assign([confluent_kafka.TopicPartition(target, n, 0) for n in range(PARTITIONS)])
    feeder = confluent_kafka.Producer({**servers, "linger.ms": 1, "queue.buffering.max.messages": 1_000_000})
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.kafka.throughput", "--child", "sage", client, cluster.address]
        child = subprocess.Popen([*command, source, target, folder, interval])
        try:
            while not reader.consume(1, 0.2):  # what comes before the job runs would be a backlog
                feeder.produce(source, SENT_AT + b"0", b"first")
                feeder.poll(0)
            began, sent, settled = time.monotonic(), 0, 0
            while time.monotonic() - began < WARM_UP_S + LATENCY_S:
                due = int((time.monotonic() - began) * per_second)
                stamp = SENT_AT + b"%d" % time.time_ns()
                for n in range(sent, due):
                    feeder.produce(source, stamp, b"key-%05d" % (n % KEYS))
                sent = due
                feeder.poll(0)
                for message in reader.consume(1_000, 0.002):
                    took.append((time.time_ns() - int(message.value()[len(SENT_AT) :])) / 1e6)
                if time.monotonic() - began < WARM_UP_S:
                    settled = len(took)
        finally:
            child.kill()
            child.wait()
            reader.close()
    return sorted(took[settled:])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.throughput")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, default=1_500_000, help="how many, for the faster client (count)")
    parser.add_argument("--interval", default="1s", help="--checkpoint_interval of the job")
    parser.add_argument("--clients", nargs="+", default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--latency", type=int, metavar="RATE", help="measure latency at so many records a second")
    asked = parser.parse_args(arguments)
    if asked.child:
        what, *rest = asked.child
        {"sage": run_sage, "bare": run_bare, "usual": run_usual}[what](*rest)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        address = os.environ.get("SAGE_TEST_KAFKA") or shared(Path(folder))[0]
        cluster = Cluster(address)
        for client in asked.clients if asked.latency else ():
            took = latency(client, cluster, asked.latency, asked.interval)
            told = ", ".join(f"p{part} {took[len(took) * part // 100]:.0f} ms" for part in (50, 90, 99))
            print(f"{client}, commits every {asked.interval}, {asked.latency:,}/s: {told} of {len(took):,}", flush=True)
        for client in asked.clients if not asked.latency else ():
            count = asked.records if client == "confluent-kafka" else asked.records // 5
            source = cluster.topic(PARTITIONS)
            rows = [(b"key-%05d" % (n % KEYS), b"%0100d" % n) for n in range(count)]
            produce_bare("confluent-kafka", address, source, rows)
            best = {"usual": 0.0, "bare": 0.0, "sage": 0.0}
            for _ in range(asked.rounds):
                for what in best:
                    best[what] = max(best[what], rate(what, client, cluster, source, count, asked.interval))
            ours = best["sage"]
            told = ", ".join(f"{what} {rate:,.0f}/s ({ours / rate:.2f})" for what, rate in best.items())
            print(f"{client}, commits every {asked.interval}: {told}", flush=True)
        cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
