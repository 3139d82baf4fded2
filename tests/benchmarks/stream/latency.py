"""How long a record takes to a ``read_committed`` reader, at half of a bare loop's rate, with frequent checkpoints.

Three processes: what sends, the job or the loop of `tests.benchmarks.stream.counting`, and the reader, which is this
one. A record says when it was due to be sent. The job is up when the first record comes through; what is sent in the
first seconds after that does not count. Behind the last record that counts, sending goes on until it has come.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import sys
import tempfile
import time
from typing import Any, NamedTuple

from tests.benchmarks.measure import Failed, Row, Settings, human
from tests.benchmarks.stream.brokers import broker, child
from tests.benchmarks.stream.counting import CLIENTS, HEAD, KEYS, PARTITIONS, command, produce
from tests.benchmarks.stream.kafka import pace_of, records
from tests.benchmarks.stream.pacing import feed

NAME = "latency"
INTERVAL_MS = 100
LOOKED_AT = 10
"""One record in so many tells its latency. What measures is to take little from what it measures, with which it shares
the machine: so of the partitions the reader reads one, and what sends is `tests.benchmarks.stream.pacing`.
"""
WARM_UP_S, COOL_DOWN_S, STARTS_WITHIN_S = 10.0, 2.0, 60.0


class _Reader:
    """Reads what is committed in a partition of a topic; a record's latency is the time from `feed` to here (ms)."""

    def __init__(self, address: str, topic: str) -> None:
        import confluent_kafka

        self._consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": address, "group.id": topic, "isolation.level": "read_committed",
             "enable.auto.commit": False, "fetch.wait.max.ms": 5, "fetch.queue.backoff.ms": 2}
        )  # fmt: skip
        self._skip = 0  # records, until the next that is looked at
        self._consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])

    def until_first(self) -> None:
        """Returns when something has come.

        Raises:
            Failed: nothing did in time.
        """
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._consumer.consume(1, 0.1):
            if time.monotonic() > deadline:
                raise Failed(f"nothing was committed within {STARTS_WITHIN_S:.0f} s")

    def latencies(self, begin_ns: int, end_ns: int) -> tuple[list[float], int]:
        """Of the records that were due between two instants (ns since the epoch), those of each tenth that comes, and
        how many of them all partitions have (count): each key has as many as the others.
        """
        found: list[float] = []
        keys: set[bytes] = set()  # of the partition that is read: all of them come before the first instant
        while time.time_ns() < end_ns + COOL_DOWN_S * 1e9:
            messages = [message for message in self._consumer.consume(1_000, 0.005) if message.error() is None]
            now = time.time_ns()
            if now < begin_ns:
                keys.update([message.key() for message in messages])
            for message in messages[self._skip :: LOOKED_AT]:
                if begin_ns <= (due := int(message.value()[:HEAD])) < end_ns:
                    found.append((now - due) / 1e6)
            self._skip = (self._skip - len(messages)) % LOOKED_AT
        return found, len(found) * LOOKED_AT * KEYS // max(len(keys), 1)

    def close(self) -> None:
        self._consumer.close()


class Latency(NamedTuple):
    """How long records took (ms), and how many came in a second (count)."""

    p99: float
    median: float
    most: float
    rate: float


def measure(way: str, client: str, cluster: Any, rate: float, seconds: float) -> Latency:
    """How long records take through the job, or the loop (``way``), with a client, at so many a second.

    Raises:
        Failed: not all of them came out in time.
    """
    source, target = cluster.topic(PARTITIONS), cluster.topic(PARTITIONS)
    lasts = WARM_UP_S + seconds + COOL_DOWN_S
    feeder = multiprocessing.get_context("spawn").Process(target=feed, args=(cluster.address, source, rate, lasts))
    reader = _Reader(cluster.address, target)
    with tempfile.TemporaryDirectory() as folder:
        run = command(sys.executable, way, client, cluster.address, source, target, folder, INTERVAL_MS)
        with child(run), contextlib.closing(reader):
            produce(cluster.address, source, KEYS)
            reader.until_first()
            feeder.start()
            begin_ns = time.time_ns() + int(WARM_UP_S * 1e9)
            try:
                found, came = reader.latencies(begin_ns, begin_ns + int(seconds * 1e9))
            finally:
                feeder.kill()
                feeder.join()
    found.sort()
    if came < 0.8 * rate * seconds:
        raise Failed(f"only {came} of the {rate * seconds:.0f} records sent came out in time")
    return Latency(found[int(len(found) * 0.99)], statistics.median(found), found[-1], came / seconds)


def bench(settings: Settings) -> list[Row]:
    """For each client: the latency of 99 of 100 records, of the job and of the loop, taking turns.

    What the loop does is measured anew before each turn: what a machine gives changes from minute to minute.
    """
    from tests.kafka.cluster import Cluster

    rows = []
    with broker() as address:
        cluster = Cluster(address)
        for client in CLIENTS:
            count = records(settings, client)
            source = cluster.topic(PARTITIONS)
            produce(address, source, count)
            try:
                found: dict[str, list[Latency]] = {"sage": [], "loop": []}
                for _ in range(settings.pick(1, 5)):
                    loop = pace_of("loop", 1_000, client, cluster, source, count, check=False).rate
                    settings.say(f"{NAME}: {client}: the loop does {human(loop)}/s")
                    for way, those in found.items():
                        those.append(measure(way, client, cluster, loop / 2, 10.0))
                        settings.say(f"{NAME}: {client}: {way}: 99 of 100 within {those[-1].p99:.0f} ms")
                rows.append(_row(f"{client}: 99 of 100 within", found["sage"], 250.0))
                rows.append(_row(f"{client}: the same of the loop", found["loop"], None))
            except Failed as error:
                rows.append(Row(NAME, client, None, 250.0, "ms", at_least=False, note=str(error)))
        cluster.close()
    return rows


def _row(what: str, found: list[Latency], asked: float | None) -> Row:
    found = sorted(found)
    middle = found[len(found) // 2]
    note = f"{found[0].p99:.0f}..{found[-1].p99:.0f} ms over {len(found)} runs at {human(middle.rate)}/s"
    note += f"; the middle one: median {middle.median:.0f} ms, most {middle.most:.0f} ms"
    return Row(NAME, what, middle.p99, asked, "ms", at_least=False, note=note)
