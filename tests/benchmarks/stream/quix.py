"""A one-second tumbling sum per key, JSON in and out, exactly once: beside Quix Streams, both with confluent-kafka."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from tests.benchmarks.measure import Failed, Ratio, Row, Settings, human
from tests.benchmarks.stream.brokers import Pace, broker, child, pace
from tests.benchmarks.stream.interpreters import interpreter

NAME = "quix"
KEYS = 100
PER_WINDOW = 20
"""How many records (count) a key has in a second of event time: each output stands for so many inputs."""
VALUES = 1_000
BASE_MS = 1_700_000_000_000
SHARE = 0.8  # of the records: the rest keeps both busy until the last commit that counts


def run_sage(address: str, source: str, target: str, folder: str) -> None:
    """Ours, until it is killed."""
    import apache_beam as beam
    import orjson  # as Quix Streams does
    from apache_beam.options.pipeline_options import PipelineOptions

    from sage.runners.local import LocalRunner
    from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka

    def row(message: tuple[bytes, Any]) -> tuple[bytes, int]:
        return message[0], message[1]["x"]

    def told(found: tuple[bytes, int], window: Any = beam.DoFn.WindowParam) -> tuple[bytes, bytes]:
        start, end = window.start.micros // 1_000, window.end.micros // 1_000
        return found[0], orjson.dumps({"start": start, "end": end, "value": found[1]})

    options = PipelineOptions([], job_name=target, checkpoint_dir=folder, checkpoint_interval="1s", streaming=True)
    pipeline = beam.Pipeline(LocalRunner(), options=options)
    config = {"bootstrap.servers": address, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    read = ReadFromKafka(
        config, [source], value_deserializer=orjson.loads, timestamp_policy="CreateTime", client="confluent-kafka"
    )
    sums = (
        pipeline
        | read
        | "row" >> beam.Map(row)
        | "second" >> beam.WindowInto(beam.window.FixedWindows(1))
        | "sum" >> beam.CombinePerKey(sum)
        | "told" >> beam.Map(told).with_output_types(tuple[bytes, bytes])
    )
    sums | WriteToKafka({"bootstrap.servers": address}, target, exactly_once=True, client="confluent-kafka")
    pipeline.run().wait_until_finish()


def run_quix(address: str, source: str, target: str, folder: str) -> None:
    """Quix Streams, until it is killed."""
    from quixstreams import Application

    app = Application(
        broker_address=address,
        consumer_group=target,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        state_dir=folder,
        loglevel="ERROR",
    )
    rows = app.dataframe(app.topic(source, key_deserializer="bytes", value_deserializer="json"))
    sums = rows.apply(lambda value: value["x"]).tumbling_window(1_000).sum().final(closing_strategy="partition")
    sums.to_topic(app.topic(target, key_serializer="bytes", value_serializer="json"))
    app.run()


WAYS: dict[str, Callable[..., None]] = {"sage": run_sage, "quix": run_quix}


def produce(address: str, topic: str, count: int) -> None:
    """Records with an event time each: in a second, every key has `PER_WINDOW` of them."""
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": address, "queue.buffering.max.messages": 1_000_000})
    per_second = KEYS * PER_WINDOW
    for number in range(count):
        at = BASE_MS + number * 1_000 // per_second
        producer.produce(topic, b'{"x": %d}' % (number % VALUES), b"key-%03d" % (number % KEYS), timestamp=at)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()


def rate(way: str, cluster: Any, source: str, count: int) -> Pace:
    """Records that one of the two takes in, a second and a second of its CPU time."""
    python = interpreter(way)
    if python is None:
        raise Failed("no Python has quixstreams: `make bench-stream` installs it, or SAGE_BENCH_PEERS names one")
    target = cluster.topic(1)
    enough = int(count * SHARE) // PER_WINDOW
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "tests.benchmarks.stream.quix", way, cluster.address, source, target, folder]
        with child(command) as process:
            found = pace(process, lambda: sum(cluster.ends(target).values()), enough)
    check(way, cluster.read(target))
    return Pace(found.rate * PER_WINDOW, found.by_cpu * PER_WINDOW)


def check(way: str, records: list[Any]) -> None:
    """Holds the sums to what they must be: each key has the same in every second.

    Raises:
        Failed: one is wrong, or there twice.
    """
    seen = set()
    for record in records:
        found, key = json.loads(record.value), int(record.key[-3:])
        place = key, found["start"]
        right = sum((key + KEYS * n) % VALUES for n in range(PER_WINDOW))
        if found["value"] != right or found["end"] - found["start"] != 1_000 or place in seen:
            raise Failed(f"{way}: {found} of key {key} is wrong, or there twice; its sum is {right} in every second")
        seen.add(place)


def bench(settings: Settings) -> list[Row]:
    """One row: the ratio to Quix Streams."""
    from tests.kafka.cluster import Cluster

    count = settings.pick(2_000_000, 6_000_000)
    found: dict[str, list[Pace]] = {way: [] for way in WAYS}
    with broker() as address:
        cluster = Cluster(address)
        source = cluster.topic(1)
        produce(address, source, count)
        for _ in range(settings.pick(1, 3)):
            for way in WAYS:
                # A slower one is watched for a part of the records: some commits are enough.
                found[way].append(rate(way, cluster, source, count // (8 if way == "quix" else 1)))
                settings.say(f"{NAME}: {way}: {human(found[way][-1].rate)}/s")
        cluster.close()
    ratio, by_cpu = (
        Ratio([(ours[n], theirs[n]) for ours, theirs in zip(found["sage"], found["quix"], strict=True)]) for n in (0, 1)
    )
    note = f"{ratio.note}; {by_cpu.median:.2f} by CPU time of the process"
    return [Row(NAME, "against Quix Streams", ratio.median, 1.2, note=note)]


if __name__ == "__main__":
    WAYS[sys.argv[1]](*sys.argv[2:])
