"""Kafka to Kafka through a count per key, exactly once: beside a bare transactional loop with the same client.

What both do is in `tests.benchmarks.stream.counting`.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from tests.benchmarks.measure import Failed, Ratio, Row, Settings, human
from tests.benchmarks.stream.brokers import Pace, broker, child, pace
from tests.benchmarks.stream.counting import CLIENTS, PARTITIONS, command, count_of, produce

__all__ = ["bench", "pace_of", "records"]

NAME = "kafka"
WAYS = {"loop": ("loop", 1_000), "sage": ("sage", 1_000), "often": ("sage", 100)}
"""What takes turns: which way, with a commit every so many milliseconds."""
SHARE = 0.8  # of the records: the rest keeps everyone busy until the last commit that counts


def records(settings: Settings, client: str) -> int:
    """How many records are run through a client (count)."""
    return int(settings.pick(1_500_000, 3_000_000) // (1 if client == "confluent-kafka" else 6))


def pace_of(way: str, interval_ms: int, client: str, cluster: Any, source: str, count: int, check: bool) -> Pace:
    """The pace of one of the two; what it has committed is held to what must come out, if that is asked for."""
    target = cluster.topic(PARTITIONS)
    with tempfile.TemporaryDirectory() as folder:
        run = command(sys.executable, way, client, cluster.address, source, target, folder, interval_ms)
        with child(run) as process:
            found = pace(process, lambda: sum(cluster.ends(target).values()), int(count * SHARE))
    if check:
        checked(cluster, target, int(count * SHARE * 0.9))
    return found


def checked(cluster: Any, target: str, least: int) -> None:
    """Holds what was committed to what must come out: each key's counts go up by one, none missing, none twice.

    Raises:
        Failed: they do not, or fewer came than expected.
    """
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": cluster.address, "group.id": target, "isolation.level": "read_committed",
         "enable.partition.eof": True}
    )  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition(target, number, 0) for number in range(PARTITIONS)])
    counts: dict[bytes, int] = {}
    ended: set[int] = set()
    while len(ended) < PARTITIONS:
        for message in consumer.consume(1_000, 1.0):
            if message.error() is not None:
                ended.add(message.partition())
                continue
            key, count = message.key(), count_of(message.value())
            if count != counts.get(key, 0) + 1:
                raise Failed(f"key {key!r}: {count} comes after {counts.get(key, 0)}")
            counts[key] = count
    consumer.close()
    if sum(counts.values()) < least:
        raise Failed(f"only {sum(counts.values())} of {least} records were committed")


def bench(settings: Settings) -> list[Row]:
    """For each client: the ratio to the loop, by time and by CPU time, and what frequent checkpoints cost."""
    from tests.kafka.cluster import Cluster

    rows = []
    with broker() as address:
        cluster = Cluster(address)
        for client in CLIENTS:
            count = records(settings, client)
            source = cluster.topic(PARTITIONS)
            produce(address, source, count)
            found: dict[str, list[Pace]] = {name: [] for name in WAYS}
            for turn in range(settings.pick(2, 5)):
                for name, way in WAYS.items():
                    found[name].append(pace_of(*way, client, cluster, source, count, check=not turn))
                told = ", ".join(f"{name} {human(paces[-1].rate)}/s" for name, paces in found.items())
                settings.say(f"{NAME}: {client}: {told}")
            rows += [
                _row(f"{client} against a bare loop", found["sage"], found["loop"], 0.7),
                _row(f"{client}, checkpoints every 100 ms against every 1 s", found["often"], found["sage"], None),
            ]
        cluster.close()
    return rows


def _row(what: str, ours: list[Pace], theirs: list[Pace], asked: float | None) -> Row:
    ratio, by_cpu = (Ratio([(pair[0][n], pair[1][n]) for pair in zip(ours, theirs, strict=True)]) for n in (0, 1))
    note = f"{ratio.note}; {by_cpu.median:.2f} by CPU time of the process"
    return Row(NAME, what, ratio.median, asked, note=note)
