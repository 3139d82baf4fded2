from __future__ import annotations

import pickle
from typing import Any

import pytest

from sage.errors import ConfigError, MissingExtra
from sage.transactions import SinkContext
from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka
from sage.transforms.io.kafka.checking import checked_pairs, checked_record
from sage.transforms.io.kafka.config import for_confluent, for_kafka_python
from sage.transforms.io.kafka.records import KafkaRecord, deserializer, serializer
from sage.transforms.io.kafka.source import KafkaSource, Split
from sage.transforms.io.kafka.transactions import is_heir, transactional_id

SERVERS = {"bootstrap.servers": "localhost:9092"}
JAVA = "org.apache.kafka.common.serialization."


@pytest.mark.parametrize(
    ("config", "how", "told"),
    [
        ({"enable.auto.commit": "true"}, {}, "enable.auto.commit=true.*lost.*commit_offset_in_finalize"),
        ({"enable.auto.commit": True}, {}, "enable.auto.commit=true"),
        ({"auto.offset.reset": "beginning"}, {}, "latest, earliest or none"),
        ({"isolation.level": "committed"}, {}, "read_committed or read_uncommitted"),
        ({}, {"commit_offset_in_finalize": True}, "needs a 'group.id'"),
        ({}, {"timestamp_policy": "EventTime"}, "ProcessingTime, CreateTime, LogAppendTime"),
        ({}, {"undecodable": "skip"}, "raise, dead_letter"),
        ({}, {"topics": []}, "name the topics"),
        ({}, {"topics": "orders"}, "must be a list"),
        ({}, {"topic_pattern": "o.*"}, "name the topics, or"),
        ({}, {"topics": (), "topic_pattern": "orders("}, "topic_pattern='orders.' is none: missing"),
        ({}, {"start_offsets": {"orders": 7}}, "start_offsets must be"),
        ({}, {"start_offsets": {"orders": {0: "7"}}}, "start_offsets must be"),
        ({}, {"start_offsets": {"visits": {0: 7}}}, "start_offsets names visits-0, which is not read"),
        ({}, {"client": "kafka"}, "there is no client 'kafka'.*'kafka-python', 'confluent-kafka'"),
        ({}, {"value_deserializer": f"{JAVA}LongDeserialiser"}, "did you mean"),
        ({}, {"consumer_factory_fn_class": "com.example.Factory"}, "Java class"),
        ({"bootstrap.servers": ""}, {}, "must name a broker"),
    ],
)
def test_a_reader_refuses_what_loses_records_or_means_nothing(config: Any, how: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ReadFromKafka({**SERVERS, **config}, **{"topics": ["orders"], **how})


@pytest.mark.parametrize(
    ("config", "how", "told"),
    [
        ({"acks": 0}, {}, "acks=0"),
        ({"acks": 1}, {"exactly_once": True}, "needs acks=all"),
        ({"enable.idempotence": False}, {"exactly_once": True}, "needs enable.idempotence"),
        ({"transactional.id": "mine"}, {}, "needs exactly_once=True"),
        ({"transaction.timeout.ms": 60_000}, {"exactly_once": True}, "60000 is shorter than longest_outage_s=600"),
        ({"transaction.timeout.ms": 599}, {"exactly_once": True, "longest_outage_s": 0.6}, "shorter"),
        ({}, {"topic": ""}, "name of one"),
        ({}, {"with_headers": True, "key_serializer": str.encode}, "without serializers"),
    ],
)
def test_a_writer_refuses_what_loses_records_or_means_nothing(config: Any, how: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        WriteToKafka({**SERVERS, **config}, **{"topic": "orders", **how})


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"topics": ["orders", "visits"]}, [True, True, False]),
        ({"topics": ["visits"]}, [False, True, False]),
        ({"topics": (), "topic_pattern": "orders.*"}, [True, False, True]),
    ],
)
def test_a_split_of_a_checkpoint_is_read_where_its_topic_is_still_named(how: Any, named: list[bool]) -> None:
    source = KafkaSource(ReadFromKafka(SERVERS, **how).reading)
    assert [source.accepts(Split(topic, 0)) for topic in ("orders", "visits", "orders-old")] == named
    assert str(Split("orders", 2)) == "orders-2"


def test_a_transaction_stays_open_longer_than_the_outage() -> None:
    def timeout(**how: Any) -> int:
        return WriteToKafka({**SERVERS, **how.pop("config", {})}, "t", exactly_once=True, **how).writing.timeout_ms()

    assert timeout() == 900_000
    assert timeout(longest_outage_s=3_600) == 3_600_000
    assert timeout(longest_outage_s=1, config={"transaction.timeout.ms": "2000"}) == 2_000


def test_every_argument_of_beams_own_is_taken() -> None:
    import inspect

    from apache_beam.io import kafka

    for ours, theirs in ((ReadFromKafka, kafka.ReadFromKafka), (WriteToKafka, kafka.WriteToKafka)):
        here = list(inspect.signature(ours).parameters)
        there = list(inspect.signature(theirs).parameters)
        assert [name for name in there if name not in here] == []
        assert here[: len(there)] == there or [name for name in here if name in there] == there
    assert ReadFromKafka.create_time_policy == kafka.ReadFromKafka.create_time_policy
    assert ReadFromKafka.byte_array_deserializer == kafka.ReadFromKafka.byte_array_deserializer
    assert WriteToKafka.byte_array_serializer == kafka.WriteToKafka.byte_array_serializer


def test_the_transforms_travel() -> None:
    read = pickle.loads(pickle.dumps(ReadFromKafka(SERVERS, ["t"], value_deserializer=int)))
    assert read.reading.value("7") == 7
    assert pickle.loads(pickle.dumps(Split("t", 1, True))) == Split("t", 1)


@pytest.mark.parametrize(
    ("name", "value", "data"),
    [
        ("String", "é", "é".encode()),
        ("Integer", -2, b"\xff\xff\xff\xfe"),
        ("Long", 1, b"\0\0\0\0\0\0\0\x01"),
        ("Short", 1, b"\0\x01"),
        ("Double", 1.5, b"\x3f\xf8\0\0\0\0\0\0"),
        ("Float", 1.5, b"\x3f\xc0\0\0"),
    ],
)
def test_javas_serializers(name: str, value: Any, data: bytes) -> None:
    assert serializer(f"{JAVA}{name}Serializer")(value) == data  # type: ignore[misc]
    assert deserializer(f"{JAVA}{name}Deserializer")(data) == value  # type: ignore[misc]


def test_bytes_are_left_alone() -> None:
    assert serializer(f"{JAVA}ByteArraySerializer") is deserializer(f"{JAVA}BytesDeserializer") is None


SECURE = {
    **SERVERS,
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.jaas.config": 'org.apache.kafka.common.security.scram.ScramLoginModule required username="a" password="b c";',
    "ssl.truststore.type": "PEM",
    "ssl.truststore.location": "/ca.pem",
    "ssl.endpoint.identification.algorithm": "",
    "fetch.max.wait.ms": "7",
    "max.poll.records": "500",
    "key.deserializer": "x",
    "enable.auto.commit": "false",
}


def test_security_in_the_words_of_each_client() -> None:
    known = {"fetch_max_wait_ms": 500, "ssl_check_hostname": True, "security_protocol": "PLAINTEXT", "ssl_cafile": None,
             "sasl_mechanism": None, "sasl_plain_username": None, "sasl_plain_password": None,
             "bootstrap_servers": "localhost"}  # fmt: skip
    assert for_kafka_python(SECURE, known) == {
        "bootstrap_servers": "localhost:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "a",
        "sasl_plain_password": "b c",
        "ssl_cafile": "/ca.pem",
        "ssl_check_hostname": False,
        "fetch_max_wait_ms": 7,
    }
    assert for_confluent(SECURE, producer=False) == {
        **SERVERS,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "a",
        "sasl.password": "b c",
        "ssl.ca.location": "/ca.pem",
        "ssl.endpoint.identification.algorithm": "none",
        "fetch.wait.max.ms": "7",
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"ssl.truststore.location": "/ca.jks"}, "Export it as PEM and name it as ssl.ca.location"),
        ({"sasl.jaas.config": "com.sun.security.auth.module.Krb5LoginModule required;"}, "username and password"),
        ({"fetch.max.wait.ms": "soon"}, "fetch.max.wait.ms='soon' is not a int"),
        ({"fetch.max.wait": "7"}, "no setting 'fetch.max.wait'; did you mean 'fetch.max.wait.ms'"),
    ],
)
def test_what_a_client_cannot_do_is_said(config: dict[str, str], told: str) -> None:
    kafka = pytest.importorskip("kafka")
    with pytest.raises(ConfigError, match=told):
        for_kafka_python(config, kafka.KafkaConsumer.DEFAULT_CONFIG)


@pytest.mark.parametrize(
    ("subtasks", "subtask", "name", "mine"),
    [
        (2, 1, transactional_id("p/q", 2, 1, 0), True),
        (2, 0, transactional_id("p/q", 2, 1, 0), False),  # of this width: it may be at work
        (2, 0, transactional_id("p/q", 3, 1, 7), True),
        (2, 1, transactional_id("p/q", 3, 1, 7), False),
        (2, 1, transactional_id("p/q", 3, 2, 7), True),
        (2, 1, transactional_id("p/q/r", 2, 1, 0), False),
        (2, 1, transactional_id("p", 2, 1, 0), False),
        (2, 1, "p/q/2/x/0", False),
    ],
)
def test_each_producer_of_a_run_before_has_one_heir(subtasks: int, subtask: int, name: str, mine: bool) -> None:
    # Three became two.
    earlier = ((0, 1), (2,))[subtask]
    assert is_heir(SinkContext("job", "step", subtask, subtasks, earlier), "p/q", name) is mine


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
@pytest.mark.parametrize("make", [lambda *how, **more: WriteToKafka(how[0], "t", **more),
                                  lambda *how, **more: ReadFromKafka(how[0], ["t"], **more)])  # fmt: skip
def test_settings_are_checked_when_the_transform_is_made(make: Any, client: str) -> None:
    make({**SERVERS, "bootstrap.timeout.ms": "5000", "compression.type": "none"}, client=client)
    for config, told in (
        ({"retry.backoff.mz": "5"}, "retry.backoff.mz"),
        ({"retry.backoff.ms": "soon"}, "retry.backoff.ms"),
        ({"compression.type": "lzz4"}, "unknown compression.type='lzz4'; did you mean 'lz4'"),
    ):
        with pytest.raises(ConfigError, match=told):
            make({**SERVERS, **config}, client=client)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_codec_needs_its_library_with_the_client_in_python(codec: str) -> None:
    from kafka import codec as codecs

    config = {**SERVERS, "compression.type": codec}
    WriteToKafka(config, "t", client="confluent-kafka")
    if getattr(codecs, f"has_{codec}")():
        WriteToKafka(config, "t")
    else:
        with pytest.raises(MissingExtra, match=f"compression.type={codec} .*pip install"):
            WriteToKafka(config, "t")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("k", b"v"), "the key is 'k' of type str.*key_serializer"),
        ((b"k", {"a": 1}), "the value is .* of type dict.*value_serializer"),
        ((5, b"v"), "the key is 5 of type int"),
        ((b"k", b"v", b"w"), "must be a .key, value. pair"),
        (7, "must be a .key, value. pair"),
        (b"kv", "must be a .key, value. pair"),
        (None, "must be a .key, value. pair"),
    ],
)
def test_a_row_that_is_no_pair_of_bytes_is_refused(row: Any, told: str) -> None:
    for rows in ([row], [(b"fine", None), row]):
        with pytest.raises(TypeError, match=f"(?s)topic 't': .*{told}"):
            checked_pairs("t", rows)


def test_pairs_of_bytes_of_any_kind_pass() -> None:
    rows = [(b"k", b"v"), (None, b"v"), (b"gone", None)]
    assert checked_pairs("t", rows) is rows
    assert checked_pairs("t", [(bytearray(b"k"), memoryview(b"v"))]) == [(b"k", b"v")]


RECORD = KafkaRecord("t", 1, -1, 5, -1, "", b"k", None, ())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key": "k"}, "the key must be bytes or None"),
        ({"value": 5}, "the value must be bytes or None"),
        ({"headers": ((b"h", b"1"),)}, "the key of a header must be a str"),
        ({"headers": (("h", "1"),)}, "the value of the header 'h' must be bytes or None"),
        ({"timestamp": 1.5}, "the timestamp must be an int"),
        ({"timestamp": -5}, "the timestamp must be milliseconds since the epoch, not -5"),
        ({"partition": True}, "the partition must be an int"),
        ({"partition": 1 << 31}, "the partition must be"),
        ({"topic": "a b"}, "a topic's name has"),
        ({"topic": ".."}, "a topic's name has"),
        ({"topic": 5}, "the topic must be a str"),
    ],
)
def test_a_record_that_kafka_cannot_take_is_refused(changed: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        checked_record(RECORD._replace(**changed))


def test_a_record_may_have_headers_without_value() -> None:
    assert checked_record(RECORD._replace(headers=(("h", None),))).headers == (("h", None),)
