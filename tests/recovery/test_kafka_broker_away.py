"""The broker goes away and comes back: nothing is lost, nothing hangs, and time stands still meanwhile."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sage.transactions import SinkContext
from sage.transforms.io.kafka import ReadFromKafka
from sage.transforms.io.kafka.client_factory import CLIENTS
from sage.transforms.io.kafka.source import KafkaSource, PartitionReader, Split
from tests.kafka.broker import Broker
from tests.kafka.cluster import Cluster
from tests.patience import patience
from tests.recovery.test_kafka_transactions import commit, handle_of, sink

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
AWAY_S = 3.0


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def away(own_broker: Broker) -> Iterator[Callable[[], None]]:
    """Kills the broker, and starts it again after some seconds."""
    threads: list[threading.Thread] = []

    def start_later() -> None:
        time.sleep(AWAY_S)
        own_broker.start()

    def go() -> None:
        own_broker.signal(signal.SIGKILL)
        threads.append(threading.Thread(target=start_later))
        threads[-1].start()

    yield go
    for thread in threads:
        thread.join()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """What to close at the end, while the broker is still there."""
    with contextlib.ExitStack() as entered:
        yield entered


@pytest.fixture
def cluster(own_broker: Broker) -> Iterator[Cluster]:
    found = Cluster(own_broker.address)
    yield found
    found.close()


def taken(reader: PartitionReader, count: int, seconds: float = patience(60)) -> list[Any]:
    """That many records, or what came of them in that time."""
    found: list[Any] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        batch = reader.poll(100)
        found += batch.values if batch else ()
        time.sleep(0.01)
    return found


def test_reading_goes_on_where_it_was(
    stack: contextlib.ExitStack, cluster: Cluster, away: Callable[[], None], client: str
) -> None:
    topic = cluster.topic()
    cluster.produce(topic, [(None, b"%d" % n) for n in range(10)], timestamp_ms=1000)
    config = {"bootstrap.servers": cluster.address, "auto.offset.reset": "earliest"}
    transform = ReadFromKafka(config, [topic], client=client, timestamp_policy="CreateTime", idle_timeout_ms=100)
    source = KafkaSource(transform.reading)
    stack.callback(source.close)
    reader = source.reader(Split(topic, 0), None)
    assert len(taken(reader, 10)) == 10
    away()
    assert taken(reader, 1, AWAY_S / 2) == []
    stands = reader.watermark()
    assert taken(reader, 1, AWAY_S / 4) == []
    assert reader.watermark() == stands  # what the broker cannot say is not taken for empty
    cluster.produce(topic, [(None, b"%d" % n) for n in range(10, 20)], timestamp_ms=1000)
    assert taken(reader, 10) == [(None, b"%d" % n) for n in range(10, 20)]


def test_what_is_written_meanwhile_arrives_once(
    stack: contextlib.ExitStack, cluster: Cluster, away: Callable[[], None], client: str
) -> None:
    topic = cluster.topic()
    writer = sink(cluster.address, topic, client, SinkContext("away", "Write"))
    stack.callback(writer.teardown)
    for n in range(1000):
        writer.process((b"k", b"%d" % n))
    away()
    for n in range(1000, 2000):
        writer.process((b"k", b"%d" % n))
    handle = handle_of(writer, 1)
    assert cluster.values(topic) == []
    commit(writer, handle)
    assert cluster.values(topic) == [b"%d" % n for n in range(2000)]


def test_a_commit_waits_for_the_broker(
    stack: contextlib.ExitStack, cluster: Cluster, away: Callable[[], None], client: str
) -> None:
    topic = cluster.topic()
    writer = sink(cluster.address, topic, client, SinkContext("away", "Write"))
    stack.callback(writer.teardown)
    for epoch in (1, 2):
        writer.process((None, b"%d" % epoch))
        handle = handle_of(writer, epoch)
        away()
        commit(writer, handle)
    assert cluster.values(topic) == [b"1", b"2"]
