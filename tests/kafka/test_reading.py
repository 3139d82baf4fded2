"""Reading topics from a real broker, with each client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import kafka as kafka_python
import pytest
from apache_beam.testing.util import assert_that, equal_to
from kafka.admin import NewPartitions

from sage.errors import ConfigError, DataLoss
from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from sage.transforms.dead_letter import DeadLetter
from sage.transforms.io.kafka import KafkaHeader, KafkaRecord, ReadFromKafka, shared
from sage.transforms.io.kafka.bounded import FirstRecords
from sage.transforms.io.kafka.client_factory import CLIENTS
from sage.transforms.io.kafka.source import KafkaSource, PartitionReader, Split
from tests.kafka.broker import SASL_PASSWORD, SASL_USER, Broker
from tests.kafka.cluster import Cluster
from tests.patience import patience

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def opened(kafka: Cluster, client: str) -> Iterator[Callable[..., KafkaSource]]:
    """Opens the source of a `ReadFromKafka`, and closes it at the end."""
    sources: list[KafkaSource] = []

    def make(topics: list[str], config: dict[str, Any] | None = None, **how: Any) -> KafkaSource:
        given = {"bootstrap.servers": kafka.address, "auto.offset.reset": "earliest", **(config or {})}
        sources.append(KafkaSource(ReadFromKafka(given, topics, client=client, **how).reading))
        sources[-1].open()
        return sources[-1]

    yield make
    for source in sources:
        source.close()


def until(true: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """What a condition gives, as soon as that is true."""
    deadline = time.monotonic() + patience(seconds)
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


def rows_of(reader: PartitionReader, count: int) -> list[Any]:
    """That many elements of a partition."""
    found: list[Any] = []

    def more() -> bool:
        batch = reader.poll(count - len(found))
        found.extend(batch.values if batch else ())
        return len(found) == count

    until(more, f"{len(found)} of {count} came")
    return found


def test_a_pipeline_reads_all_partitions_and_ends(kafka: Cluster, client: str) -> None:
    topic = kafka.topic(3)
    rows = [(b"k%d" % n, b"%d" % n) for n in range(300)]
    kafka.produce(topic, rows)
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        found = pipeline | ReadFromKafka(
            {"bootstrap.servers": kafka.address, "auto.offset.reset": "earliest"},
            [topic],
            max_num_records=300,
            client=client,
        )
        assert_that(found, equal_to(rows))


def test_reading_ends_after_a_time(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    kafka.produce(topic, [(b"k", b"v")])
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        config = {"bootstrap.servers": kafka.address, "auto.offset.reset": "earliest"}
        found = pipeline | ReadFromKafka(config, [topic], max_read_time=2, client=client)
        assert_that(found, equal_to([(b"k", b"v")]))


def test_a_record_with_all_that_belongs_to_it(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic(2)
    headers = [("h", b"1"), ("h", b"2")]
    kafka.produce(topic, [(None, b"one"), (b"k", None)], partition=1, timestamp_ms=1234, headers=headers)
    source = opened(
        [topic],
        with_metadata=True,
        timestamp_policy="CreateTime",
        value_deserializer=bytes.decode,
        idle_timeout_ms=10**13,
        max_delay_ms=234,
    )
    reader = source.reader(Split(topic, 1), None)
    found = rows_of(reader, 2)
    kept = (KafkaHeader("h", b"1"), KafkaHeader("h", b"2"))
    assert found == [
        KafkaRecord(topic, 1, 0, 1234, 0, "CreateTime", None, "one", kept),
        KafkaRecord(topic, 1, 1, 1234, 0, "CreateTime", b"k", None, kept),
    ]
    assert reader.watermark() == 1_000_000


def test_where_reading_begins(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic()
    for n in range(5):
        kafka.produce(topic, [(None, b"%d" % n)], timestamp_ms=1000 * (n + 1))
    split = Split(topic, 0)
    group = {"group.id": f"group of {topic}"}

    assert opened([topic]).reader(split, None).position() == 0
    assert opened([topic]).reader(split, 3).position() == 3
    assert opened([topic], start_read_time=2500).reader(split, None).position() == 2
    assert opened([topic], start_read_time=9000).reader(split, None).position() == 5
    assert opened([topic], {"auto.offset.reset": "latest"}).reader(split, None).position() == 5
    late = opened([topic], {"auto.offset.reset": "latest"})
    assert late.reader(late.on_discovered(split), None).position() == 0

    by_offset = {"start_offsets": {topic: {0: 3}}, "start_read_time": 1}
    assert opened([topic], **by_offset).reader(split, None).position() == 3
    assert opened([topic], **by_offset).reader(split, 4).position() == 4
    other = {"topic_pattern": f"{topic}|other", "start_offsets": {"other": {0: 3}}}
    assert opened([], **other).reader(split, None).position() == 0
    with pytest.raises(ConfigError, match="has offsets from 0 to 5; it cannot begin at 6"):
        opened([topic], start_offsets={topic: {0: 6}}).reader(split, None)

    first = opened([topic], group, commit_offset_in_finalize=True)
    reader = first.reader(split, None)
    assert rows_of(reader, 4)[-1] == (None, b"3")
    assert kafka.committed(group["group.id"]) == {}
    reader.committed(reader.position())
    until(lambda: kafka.committed(group["group.id"]), "the group's offset was not committed")
    assert opened([topic], group).reader(split, None).position() == 4
    assert opened([topic], group, start_read_time=2500).reader(split, None).position() == 2
    with pytest.raises(ConfigError, match="has no offset"):
        opened([topic], {"auto.offset.reset": "none", "group.id": "none"}).reader(split, None)


def test_only_what_was_committed(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic()
    producer = kafka_python.KafkaProducer(bootstrap_servers=kafka.address, transactional_id=topic)
    producer.init_transactions()
    ends = [producer.commit_transaction, producer.abort_transaction, producer.commit_transaction]
    for n, end in enumerate(ends):
        producer.begin_transaction()
        for part in range(100):
            producer.send(topic, b"%d" % (100 * n + part), timestamp_ms=1000)
        if end is not ends[-1]:
            end()
    producer.flush()
    source = opened([topic], {"isolation.level": "read_committed"}, timestamp_policy="CreateTime")
    reader = source.reader(Split(topic, 0), None)
    assert [value for _, value in rows_of(reader, 100)] == [b"%d" % n for n in range(100)]
    until(lambda: reader.lag(), "the broker did not say where the partition ends")
    assert reader.poll(10) is None
    assert reader.watermark() == 1_000_000  # there is something that is not committed yet
    producer.commit_transaction()
    assert [value for _, value in rows_of(reader, 100)] == [b"%d" % n for n in range(200, 300)]
    until(lambda: reader.poll(10) is None and reader.watermark() > 2_000_000, "markers held the watermark back")
    assert reader.lag() == 0
    producer.close()


def test_an_idle_partition_lets_time_go_on(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic(2)
    kafka.produce(topic, [(None, b"old")], partition=0, timestamp_ms=5000)
    source = opened([topic], timestamp_policy="CreateTime", idle_timeout_ms=100)
    began = time.time()
    busy, idle = [source.reader(split, None) for split in source.splits()]
    assert idle.watermark() < 0
    until(lambda: not idle.poll(10) and idle.watermark() / 1e6 > began - 1, "the empty partition stood still")
    assert busy.watermark() < 5_000_000  # one that waits to be read does not go on
    assert rows_of(busy, 1) == [(None, b"old")]
    until(lambda: not busy.poll(10) and busy.watermark() / 1e6 > began - 1, "the partition that is read stood still")


def test_a_record_of_another_century_does_not_make_those_behind_it_late(kafka: Cluster, client: str) -> None:
    topic = kafka.topic(**{"message.timestamp.after.max.ms": str(2**63 - 1)})
    now_s = int(time.time()) // 10 * 10
    seconds = [(now_s, 5), (4_985_000_000, 1), (now_s + 60, 20)]
    for at, count in seconds:
        kafka.produce(topic, [(b"k", b"v")] * count, timestamp_ms=at * 1_000)
    config = {"bootstrap.servers": kafka.address, "auto.offset.reset": "earliest"}
    reading = ReadFromKafka(config, [topic], client=client, timestamp_policy="CreateTime").reading
    first = FirstRecords(KafkaSource(reading), 26, None)
    first.max_poll_records = 1  # the watermark moves behind each record
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        counts = (
            pipeline
            | ReadStream(first)
            | beam.WindowInto(beam.window.FixedWindows(10))
            | beam.Map(lambda pair: (pair[0], 1))
            | beam.CombinePerKey(sum)
            | beam.Map(lambda pair, window=beam.DoFn.WindowParam: (int(window.start), pair[1]))
        )
        assert_that(counts, equal_to(seconds))


def test_a_partition_that_nobody_asks_for_keeps_no_other_from_being_read(
    kafka: Cluster, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_MOST_WAITING", 1_000)
    monkeypatch.setattr(shared, "_LATELY_S", 0.0)
    topic, count = kafka.topic(2), 10_000
    for partition in (0, 1):
        kafka.produce(topic, [(None, b"%d %s" % (n, b"x" * 200)) for n in range(count)], partition=partition)
    source = opened([topic])
    waits, read = [source.reader(split, None) for split in source.splits()]
    for reader in (read, waits):
        assert [int(value.split()[0]) for _, value in rows_of(reader, count)] == list(range(count))
    until(lambda: not waits.poll(10) and waits.lag() == 0, "the partition that waited did not come to its end")


def test_a_join_of_a_fast_and_a_slow_topic_is_read_at_the_same_event_time(kafka: Cluster, client: str) -> None:
    """The slow one's records are as many for each second of event time, and it is read a tenth as fast."""
    topics = [kafka.topic() for _ in range(2)]
    producer = kafka_python.KafkaProducer(bootstrap_servers=kafka.address)
    for topic in topics:
        for n in range(20_000):
            producer.send(topic, b"%d" % n, key=b"k", timestamp_ms=1_700_000_000_000 + 10 * n)
    producer.flush()
    producer.close()
    config = {"bootstrap.servers": kafka.address, "auto.offset.reset": "earliest"}
    NEWEST.clear()
    pipeline = beam.Pipeline(runner=LocalRunner())
    sides = []
    for topic, at_a_time in zip(topics, (1_000, 100), strict=True):
        source = KafkaSource(ReadFromKafka(config, [topic], client=client, timestamp_policy="CreateTime").reading)
        source.max_poll_records = at_a_time
        rows = pipeline | topic >> ReadStream(source) | f"note {topic}" >> beam.ParDo(_Note(topic))
        sides.append(rows | f"windows {topic}" >> beam.WindowInto(beam.window.FixedWindows(1)))
    sides | beam.CoGroupByKey() | beam.Map(len)
    job: Any = pipeline.run()
    fast, slow = topics
    try:
        until(lambda: NEWEST.get(slow, (0, 0))[0] >= 19_999, "the topics were not read", seconds=60)
    finally:
        job.cancel()
        job.wait_until_finish()
    # 5 s of drift, a batch of 10 s, and what came of it before it was known where the slow one stands.
    assert NEWEST[fast][1] <= 5_000 + 10_000


NEWEST: dict[str, tuple[int, int]] = {}
"""Of each topic the number of the last record that was read, and how far that was ahead of the other topic (ms)."""


class _Note(beam.DoFn):
    def __init__(self, topic: str) -> None:
        self.topic = topic

    def process(self, pair: tuple[bytes, bytes]) -> Any:
        number = int(pair[1])
        others = [last for topic, (last, _) in NEWEST.items() if topic != self.topic]
        ahead = 10 * (number - others[0]) if others else 0
        NEWEST[self.topic] = number, max(ahead, NEWEST.get(self.topic, (0, 0))[1])
        return (pair,)


def test_new_partitions_and_topics_are_found(kafka: Cluster, opened: Any) -> None:
    name = kafka.topic()
    source = opened([], topic_pattern=f"{name}.*")
    assert source.splits() == [Split(name, 0)]
    kafka.admin.create_partitions({name: NewPartitions(2)})
    kafka.topic(name=f"{name}-too")
    until(lambda: source.splits() == [Split(name, 0), Split(name, 1), Split(f"{name}-too", 0)], "they were not found")


def test_time_is_the_brokers_where_the_topic_says_so(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic(**{"message.timestamp.type": "LogAppendTime"})
    kafka.produce(topic, [(None, b"v")], timestamp_ms=1)
    reader = opened([topic], timestamp_policy="LogAppendTime", with_metadata=True).reader(Split(topic, 0), None)
    [record] = rows_of(reader, 1)
    assert record.timestampTypeName == "LogAppendTime"
    assert abs(reader.watermark() / 1e6 - time.time()) < 60
    other = kafka.topic()
    kafka.produce(other, [(None, b"v")])
    reader = opened([other], timestamp_policy="LogAppendTime").reader(Split(other, 0), None)
    with pytest.raises(ConfigError, match="no append time"):
        rows_of(reader, 1)


def test_what_cannot_be_decoded_is_named_or_put_aside(kafka: Cluster, opened: Any, client: str) -> None:
    topic = kafka.topic()
    kafka.produce(topic, [(b"a", b"1"), (b"b", b"two"), (b"c", b"3")])
    reader = opened([topic], value_deserializer=int).reader(Split(topic, 0), None)
    with pytest.raises(ValueError, match=f"topic '{topic}', partition 0, offset 1: its value cannot be decoded: Val"):
        rows_of(reader, 3)
    config = {"bootstrap.servers": kafka.address, "auto.offset.reset": "earliest"}
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        good, dead = pipeline | ReadFromKafka(
            config, [topic], value_deserializer=int, max_num_records=3, undecodable="dead_letter", client=client
        )
        assert_that(good, equal_to([(b"a", 1), (b"c", 3)]), label="good")
        assert_that(dead | beam.Map(told), equal_to([("two", f"{topic}-0", 1)]), label="dead")


def told(letter: DeadLetter) -> tuple[str, str, int | None]:
    return letter.payload, letter.source, letter.line


def test_many_records_come_in_order_and_a_slow_reader_fills_no_memory(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic(2)
    for partition in (0, 1):
        kafka.produce(topic, [(None, b"%d" % n) for n in range(25_000)], partition=partition)
    source = opened([topic])
    fast, slow = [source.reader(split, None) for split in source.splits()]
    values = [int(value) for _, value in rows_of(fast, 25_000)]
    assert values == list(range(25_000))
    assert source._shared._waiting[slow._partition] < 25_000
    assert [int(value) for _, value in rows_of(slow, 25_000)] == values


def test_a_topic_that_is_not_there(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic()
    with pytest.raises(ConfigError, match=f"no topic '{topic}x' at .*did you mean '{topic}'"):
        opened([f"{topic}x"]).splits()
    assert f"{topic}x" not in kafka.admin.list_topics()  # asking did not make it


def test_records_that_retention_took_are_missed_aloud(kafka: Cluster, opened: Any) -> None:
    topic = kafka.topic()
    kafka.produce(topic, [(None, b"%d" % n) for n in range(10)])
    kafka.admin.delete_records({kafka_python.TopicPartition(topic, 0): 5})
    reader = opened([topic]).reader(Split(topic, 0), 3)
    with pytest.raises(DataLoss, match=f"topic '{topic}', partition 0: offset 3 .* only 5 to 10"):
        rows_of(reader, 1)


def test_no_broker_there_is_an_error_that_says_where(client: str) -> None:
    reading = ReadFromKafka({"bootstrap.servers": "127.0.0.1:1", "bootstrap.timeout.ms": "500"}, ["t"], client=client)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1"):
        KafkaSource(reading.reading).splits()


def test_logging_in_with_sasl(client: str, own_broker: Broker) -> None:
    cluster = Cluster(own_broker.address)
    topic = cluster.topic()
    cluster.produce(topic, [(None, b"secret")])
    cluster.close()
    jaas = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{SASL_USER}" password="{{}}";'
    config = {
        "bootstrap.servers": own_broker.sasl_address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": jaas.format(SASL_PASSWORD),
        "auto.offset.reset": "earliest",
    }
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        found = pipeline | ReadFromKafka(config, [topic], max_num_records=1, client=client)
        assert_that(found, equal_to([(None, b"secret")]))


def test_a_partition_that_waits_for_its_turn_loses_nothing_and_fills_no_memory(
    kafka: Cluster, opened: Callable[..., KafkaSource]
) -> None:
    topic, count = kafka.topic(3), 60_000
    for number in range(3):
        kafka.produce(topic, [(b"k", b"%d" % row) for row in range(count)], partition=number)
    source = opened([topic])
    readers = {each.number: source.reader(each, None) for each in source.splits()}
    seen: dict[int, list[int]] = {number: [] for number in readers}

    def take(number: int) -> bool:
        batch = readers[number].poll(1_000)
        if batch is not None:
            seen[number] += [int(value) for _, value in batch.values]
        return batch is not None

    def rests() -> bool:
        """Only the first is asked for, until what waits for the others keeps more from being fetched."""
        return sum(take(0) for _ in range(100)) == 0 and any(readers[number].ready for number in (1, 2))

    def done() -> bool:
        return sum(take(number) for number in readers) == 0 and all(len(rows) == count for rows in seen.values())

    until(lambda: len(seen[0]) == count or rests(), "the first partition does not rest")
    until(done, f"not all came: { {number: len(rows) for number, rows in seen.items()} }")
    assert all(rows == list(range(count)) for rows in seen.values())
