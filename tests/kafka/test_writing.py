"""Writing topics to a real broker, with each client."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest

from sage.errors import ConfigError, Fault, StepError
from sage.runners.local import LocalRunner
from sage.transforms.io.kafka import KafkaHeader, KafkaRecord, WriteToKafka
from sage.transforms.io.kafka.client_factory import CLIENTS
from tests.kafka.cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> str:
    return request.param


def write(kafka: Cluster, rows: list[Any], topic: str, config: dict[str, Any] | None = None, **how: Any) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        sink = WriteToKafka({"bootstrap.servers": kafka.address, **(config or {})}, topic, **how)
        pipeline | beam.Create(rows, reshuffle=False) | sink


@pytest.mark.parametrize("exactly_once", [False, True])
def test_pairs_are_written_and_a_missing_one_stays_missing(kafka: Cluster, client: str, exactly_once: bool) -> None:
    topic = kafka.topic()
    rows = [(b"k%d" % n, b"%d" % n) for n in range(1200)]
    write(kafka, [*rows, (None, b"v"), (b"gone", None)], topic, client=client, exactly_once=exactly_once)
    found = [(record.key, record.value) for record in kafka.read(topic)]
    assert found == [*rows, (None, b"v"), (b"gone", None)]


def test_serializers_by_javas_name_and_by_function(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    longs = "org.apache.kafka.common.serialization.LongSerializer"
    write(kafka, [(1, "a"), (None, "b")], topic, client=client, key_serializer=longs, value_serializer=str.encode)
    assert [(record.key, record.value) for record in kafka.read(topic)] == [(bytes(7) + b"\x01", b"a"), (None, b"b")]


@pytest.mark.parametrize("exactly_once", [False, True])
def test_rows_with_headers_say_where_they_go(kafka: Cluster, client: str, exactly_once: bool) -> None:
    topic, other = kafka.topic(3), kafka.topic(3)
    header = beam.Row(key="h", value=b"1")
    rows = [
        beam.Row(key=b"k", value=b"here", headers=[header, beam.Row(key="h", value=b"2")], partition=2, timestamp=1234),
        beam.Row(key=b"k", value=b"there", headers=[header], topic=other),
    ]
    for row in rows:
        write(kafka, [row], topic, client=client, with_headers=True, exactly_once=exactly_once)
    [here] = kafka.read(topic)
    assert (here.value, here.partition, here.timestamp) == (b"here", 2, 1234)
    assert here.headers == [("h", b"1"), ("h", b"2")]
    assert kafka.values(other) == [b"there"]


def test_a_key_has_one_partition_whoever_writes_it(kafka: Cluster) -> None:
    topic = kafka.topic(7)
    rows = [(b"k%d" % n, b"v") for n in range(50)]
    for client in CLIENTS:
        write(kafka, rows, topic, client=client)
    placed = {(record.key, record.partition) for record in kafka.read(topic)}
    assert len(placed) == 50
    assert len({partition for _, partition in placed}) == 7


@pytest.mark.parametrize("exactly_once", [False, True])
def test_what_cannot_be_written_is_an_error(kafka: Cluster, client: str, exactly_once: bool) -> None:
    with pytest.raises(StepError, match="there is no topic 'notopic' at") as caught:
        write(kafka, [(b"k", b"v")], "notopic", client=client, exactly_once=exactly_once)
    assert caught.value.fault is Fault.CONFIGURATION
    topic = kafka.topic(**{"max.message.bytes": "1000"})
    with pytest.raises(Exception, match="did not take what was written"):
        write(kafka, [(b"k", bytes(5000))], topic, client=client, exactly_once=exactly_once)
    assert kafka.values(topic) == []


def test_a_timeout_the_broker_does_not_allow_is_named(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    with pytest.raises(Exception, match=r"transaction\.max\.timeout\.ms") as caught:
        write(kafka, [(b"k", b"v")], topic, client=client, exactly_once=True, longest_outage_s=3600)
    assert isinstance(caught.value.cause, ConfigError)


def test_a_record_read_with_metadata_can_be_written(kafka: Cluster, client: str) -> None:
    topic = kafka.topic(2)
    record = KafkaRecord(topic, 1, 0, 99, 0, "CreateTime", b"k", b"v", ())
    write(kafka, [record], kafka.topic(), client=client, with_headers=True)
    [found] = kafka.read(topic)
    assert (found.partition, found.timestamp, found.key, found.value) == (1, 99, b"k", b"v")


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_header_without_value_is_written_and_read(kafka: Cluster, client: str, exactly_once: bool) -> None:
    topic = kafka.topic()
    headers = (KafkaHeader("a", None), KafkaHeader("b", b""), KafkaHeader("c", b"1"))
    record = KafkaRecord(topic, -1, -1, -1, -1, "", b"k", None, headers)
    write(kafka, [record], topic, client=client, with_headers=True, exactly_once=exactly_once)
    [found] = kafka.read(topic)
    assert found.value is None
    assert found.headers == [("a", None), ("b", b""), ("c", b"1")]


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_record_that_is_not_bytes_is_named_with_what_to_do(kafka: Cluster, client: str, exactly_once: bool) -> None:
    topic = kafka.topic()
    with pytest.raises(StepError, match=r"'k' of type str.*key_serializer") as caught:
        write(kafka, [(b"fine", b"v"), ("k", "v")], topic, client=client, exactly_once=exactly_once)
    assert caught.value.step.startswith("WriteToKafka")
    assert kafka.values(topic) == []


def test_a_partition_that_is_not_there_is_named(kafka: Cluster, client: str) -> None:
    row = beam.Row(key=b"k", value=b"v", partition=7)
    with pytest.raises(Exception, match="did not take what was written"):
        write(kafka, [row], kafka.topic(2), client=client, with_headers=True)


def test_settings_of_one_client_only_do_not_stop_the_questions_that_the_other_asks(kafka: Cluster) -> None:
    topic = kafka.topic()
    config = {"queue.buffering.max.kbytes": "4096", "bootstrap.timeout.ms": "20000", "compression.type": "none"}
    write(kafka, [(b"k", b"v")], topic, config, client="confluent-kafka")
    write(kafka, [(b"k", b"w")], topic, {"compression.type": "none"}, client="kafka-python")
    assert kafka.values(topic) == [b"v", b"w"]
