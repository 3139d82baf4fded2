"""How long a record takes to a ``read_committed`` reader, at half of a bare loop's rate, with frequent checkpoints."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from tests.benchmarks.measure import ROOT, Failed, Row, Settings, child_environment, human
from tests.benchmarks.stream.brokers import broker

NAME = "latency"
INTERVAL = "100ms"
KEYS = 1_000
WARM_UP_S = 4.0


def run_job(client: str, address: str, source: str, target: str, folder: str) -> None:
    """The job, until it is killed: counts by key, and passes on the value, which says when it was sent."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms.userstate import CombiningValueStateSpec

    from sage.runners.local import LocalRunner
    from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka

    class Count(beam.DoFn):
        COUNT = CombiningValueStateSpec("count", sum)

        def process(self, row: Any, count: Any = beam.DoFn.StateParam(COUNT)) -> Any:
            count.add(1)
            yield row

    options = PipelineOptions(
        [], job_name=target, checkpoint_dir=folder, checkpoint_interval=INTERVAL, max_bundle_time=10, streaming=True
    )
    pipeline = beam.Pipeline(LocalRunner(), options=options)
    config = {"bootstrap.servers": address, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    rows = pipeline | ReadFromKafka(config, [source], timestamp_policy="CreateTime", client=client)
    counted = rows | "Count" >> beam.ParDo(Count())
    counted | WriteToKafka({"bootstrap.servers": address}, target, exactly_once=True, client=client)
    pipeline.run().wait_until_finish()


def feed(address: str, topic: str, rate: float, seconds: float) -> None:
    """Sends so many records a second, in portions of five milliseconds."""
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 2})
    began, sent = time.monotonic(), 0
    while (past := time.monotonic() - began) < seconds:
        due = int(past * rate)
        for number in range(sent, due):
            producer.produce(topic, b"%020d" % time.time_ns() + b"." * 80, b"key-%05d" % (number % KEYS))
        sent = max(sent, due)
        producer.poll(0)
        time.sleep(0.005)
    producer.flush()


def latencies(address: str, topic: str, seconds: float) -> list[float]:
    """What a reader of committed records sees, after the warm-up: milliseconds from sending to reading."""
    import confluent_kafka

    from tests.kafka.bench import PARTITIONS

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": topic, "isolation.level": "read_committed",
         "enable.auto.commit": False, "fetch.wait.max.ms": 5, "fetch.queue.backoff.ms": 2}
    )  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    found = []
    began = time.monotonic()
    while (past := time.monotonic() - began) < seconds:
        now_messages = consumer.consume(1_000, 0.01)
        now = time.time_ns()
        if past > WARM_UP_S:
            found += [(now - int(message.value()[:20])) / 1e6 for message in now_messages if not message.error()]
    consumer.close()
    return found


def measure(client: str, cluster: Any, loop: float, seconds: float) -> Row:
    """The row of one client; ``loop`` is what a bare loop with it does (records/s)."""
    from tests.kafka.bench import PARTITIONS

    source, target = cluster.topic(PARTITIONS), cluster.topic(PARTITIONS)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.stream.latency"]
        command += [client, cluster.address, source, target, folder]
        job = subprocess.Popen(command, cwd=ROOT, env=child_environment(), stderr=subprocess.DEVNULL)
        feeder = context.Process(target=feed, args=(cluster.address, source, loop / 2, seconds + WARM_UP_S))
        try:
            time.sleep(2.5)
            feeder.start()
            found = sorted(latencies(cluster.address, target, seconds + WARM_UP_S))
        finally:
            job.kill()
            job.wait()
            with contextlib.suppress(ValueError, AssertionError):
                feeder.kill()
                feeder.join()
    if not found:
        raise Failed(f"{client}: nothing was committed within {seconds:.0f} s")
    p99 = found[int(len(found) * 0.99)]
    note = (
        f"{human(loop / 2)}/s sent, {human(len(found) / seconds)}/s read; median {statistics.median(found):.0f} ms, "
        f"most {found[-1]:.0f} ms"
    )
    return Row(NAME, f"{client}: 99 of 100 within", p99, 250.0, "ms", at_least=False, note=note)


def bench(settings: Settings) -> list[Row]:
    """For each client: the latency of 99 of 100 records."""
    from tests.kafka.bench import PARTITIONS, produce_bare
    from tests.kafka.cluster import Cluster
    from tests.kafka.throughput import rate

    rows = []
    with broker() as address:
        cluster = Cluster(address)
        for client in ("kafka-python", "confluent-kafka"):
            count = settings.pick(300_000, 1_000_000) // (1 if client == "confluent-kafka" else 5)
            source = cluster.topic(PARTITIONS)
            sent = [(b"key-%05d" % (n % KEYS), b"%0100d" % n) for n in range(count)]
            produce_bare("confluent-kafka", address, source, sent)
            loop = rate("bare", client, cluster, source, count, "1s")
            try:
                rows.append(measure(client, cluster, loop, settings.pick(8.0, 20.0)))
            except Failed as error:
                rows.append(Row(NAME, client, None, 250.0, "ms", at_least=False, note=str(error)))
        cluster.close()
    return rows


if __name__ == "__main__":
    run_job(*sys.argv[1:])
