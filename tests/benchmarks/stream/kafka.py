"""Kafka to Kafka through a count per key, exactly once: beside a bare transactional loop with the same client."""

from __future__ import annotations

import statistics

from tests.benchmarks.measure import Row, Settings, human
from tests.benchmarks.stream.brokers import broker

NAME = "kafka"
CLIENTS = ("kafka-python", "confluent-kafka")
INTERVALS = ("1s", "100ms")


def bench(settings: Settings) -> list[Row]:
    """For each client: the ratio to the loop, and what frequent checkpoints cost."""
    from tests.kafka.bench import PARTITIONS, produce_bare
    from tests.kafka.cluster import Cluster
    from tests.kafka.throughput import KEYS, rate

    rows = []
    with broker() as address:
        cluster = Cluster(address)
        for client in CLIENTS:
            count = settings.pick(400_000, 1_500_000) // (1 if client == "confluent-kafka" else 5)
            source = cluster.topic(PARTITIONS)
            sent = [(b"key-%05d" % (n % KEYS), b"%0100d" % n) for n in range(count)]
            produce_bare("confluent-kafka", address, source, sent)
            found: dict[str, list[float]] = {"bare": [], **{interval: [] for interval in INTERVALS}}
            for _ in range(settings.pick(1, 3)):
                found["bare"].append(rate("bare", client, cluster, source, count, "1s"))
                for interval in INTERVALS:
                    found[interval].append(rate("sage", client, cluster, source, count, interval))
                told = ", ".join(f"{what} {human(rates[-1])}/s" for what, rates in found.items())
                settings.say(f"{NAME}: {client}: {told}")
            middle = {what: statistics.median(rates) for what, rates in found.items()}
            note = f"{human(middle['1s'])}/s against {human(middle['bare'])}/s"
            rows.append(Row(NAME, f"{client} against a bare loop", middle["1s"] / middle["bare"], 0.7, note=note))
            note = f"{human(middle['100ms'])}/s against {human(middle['1s'])}/s with one a second"
            rows.append(Row(NAME, f"{client}, checkpoints every 100 ms", middle["100ms"] / middle["1s"], note=note))
        cluster.close()
    return rows
