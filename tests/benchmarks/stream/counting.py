"""From topic to topic through a count per key, exactly once: as a job, and as the loop one would write by hand.

Both do the same with a record: its key's count goes up by one, and out go the key, the first bytes of the value and the
count. Both read with ``read_committed``, commit what they wrote and how far they read as one, once in every interval,
and are a process of their own that runs until it is killed.

The loop consumes in batches, keeps the counts in a dict and has one transactional producer; offsets go into the
transaction. It is tuned: nothing is called for each record that need not be. Its counts are gone when it dies; the job
stores its counts with every checkpoint.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

__all__ = ["CLIENTS", "HEAD", "KEYS", "PARTITIONS", "command", "count_of", "counted", "key_of", "produce", "value_of"]

CLIENTS = ("kafka-python", "confluent-kafka")
PARTITIONS = 4
KEYS = 1_000
HEAD = 20
"""How much of a value goes on (bytes): a number, which may say when the record was made."""
_PAD = b"." * 80
_BATCH = 1_000


def key_of(number: int) -> bytes:
    """The key of a record."""
    return b"key-%05d" % (number % KEYS)


def value_of(number: int) -> bytes:
    """The value of a record: 100 bytes."""
    return b"%020d" % number + _PAD


def counted(value: bytes, count: int) -> bytes:
    """What goes out for a record."""
    return b"%s %d" % (value[:HEAD], count)


def count_of(value: bytes) -> int:
    """The count in what went out for a record."""
    return int(value[HEAD + 1 :])


def run_sage(client: str, address: str, source: str, target: str, folder: str, interval_ms: str) -> None:
    """The job."""
    import apache_beam as beam
    from apache_beam.coders import VarIntCoder
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

    from sage.runners.local import LocalRunner
    from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka

    class Count(beam.DoFn):
        COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())

        def process(
            self, row: tuple[bytes, bytes], state: Any = beam.DoFn.StateParam(COUNT)
        ) -> Iterable[tuple[bytes, bytes]]:
            count = (state.read() or 0) + 1
            state.write(count)
            return [(row[0], counted(row[1], count))]

    options = PipelineOptions(
        [], job_name=target, checkpoint_dir=folder, checkpoint_interval=f"{interval_ms}ms", streaming=True
    )
    pipeline = beam.Pipeline(LocalRunner(), options=options)
    config = {"bootstrap.servers": address, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    rows = pipeline | ReadFromKafka(config, [source], client=client)
    counts = rows | "Count" >> beam.ParDo(Count())
    counts | WriteToKafka({"bootstrap.servers": address}, target, exactly_once=True, client=client)
    pipeline.run().wait_until_finish()


def run_loop(client: str, address: str, source: str, target: str, folder: str, interval_ms: str) -> NoReturn:
    """The loop."""
    loop = loop_confluent if client == "confluent-kafka" else loop_python
    loop(address, source, target, int(interval_ms) / 1000)


def loop_confluent(address: str, source: str, target: str, interval_s: float) -> NoReturn:
    """The loop with confluent-kafka."""
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": target, "isolation.level": "read_committed",
         "enable.auto.commit": False, "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 5}
    )  # fmt: skip
    consumer.assign([TopicPartition(source, number, 0) for number in range(PARTITIONS)])
    producer = Producer(
        {"bootstrap.servers": address, "transactional.id": target, "linger.ms": 5, "partitioner": "murmur2_random",
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    producer.init_transactions()
    counts: dict[bytes, int] = {}
    produce = producer.produce
    while True:
        producer.begin_transaction()
        ends = time.monotonic() + interval_s
        reached: dict[int, int] = {}
        while time.monotonic() < ends:
            for message in consumer.consume(_BATCH, 0.01):
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                key = message.key()
                counts[key] = count = counts.get(key, 0) + 1
                produce(target, counted(message.value(), count), key)
                reached[message.partition()] = message.offset() + 1
            producer.poll(0)
        offsets = [TopicPartition(source, number, offset) for number, offset in reached.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()


def loop_python(address: str, source: str, target: str, interval_s: float) -> NoReturn:
    """The loop with kafka-python."""
    from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=address, group_id=None, enable_auto_commit=False, isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20, fetch_max_wait_ms=100, metrics_enabled=False,
    )  # fmt: skip
    consumer.assign([TopicPartition(source, number) for number in range(PARTITIONS)])
    consumer.seek_to_beginning()
    producer = KafkaProducer(
        bootstrap_servers=address, transactional_id=target, linger_ms=5, batch_size=128 << 10, metrics_enabled=False
    )
    producer.init_transactions()
    counts: dict[bytes, int] = {}
    send = producer.send
    while True:
        producer.begin_transaction()
        ends = time.monotonic() + interval_s
        reached: dict[Any, Any] = {}
        while time.monotonic() < ends:
            for partition, records in consumer.poll(timeout_ms=10, max_records=_BATCH).items():
                for record in records:
                    key = record.key
                    counts[key] = count = counts.get(key, 0) + 1
                    send(target, counted(record.value, count), key)
                reached[partition] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
        producer.send_offsets_to_transaction(reached, target)
        producer.commit_transaction()


WAYS: dict[str, Callable[..., None]] = {"sage": run_sage, "loop": run_loop}


def command(
    python: str, way: str, client: str, address: str, source: str, target: str, folder: str, interval_ms: int
) -> list[str]:
    """What runs one of the two as a process, until it is killed.

    Args:
        python: the interpreter.
        way: ``sage`` or ``loop``.
        client: the name of the client.
        address: of the broker.
        source: the topic that is read.
        target: the topic that is written.
        folder: where checkpoints go; the loop has none.
        interval_ms: how often is committed (ms).
    """
    module = ["-m", "tests.benchmarks.stream.counting"]
    return [python, *module, way, client, address, source, target, folder, str(interval_ms)]


def produce(address: str, topic: str, count: int) -> None:
    """Fills the topic that is read."""
    import confluent_kafka

    producer = confluent_kafka.Producer(
        {"bootstrap.servers": address, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    )
    for number in range(count):
        producer.produce(topic, value_of(number), key_of(number))
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()


if __name__ == "__main__":
    import logging

    logging.disable(logging.WARNING)
    WAYS[sys.argv[1]](*sys.argv[2:])
