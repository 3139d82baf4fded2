"""A Kafka configuration, given with Kafka's own (Java) names: checked, and put in the words of each client.

Names that a client shares with Java go through as they are, so that what is not mentioned here (timeouts, buffers,
client ids, SASL and TLS) can be set too. Source of the names: the consumer and producer configs of Apache Kafka 4, the
configuration of librdkafka 2, and the keyword arguments of kafka-python 3.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from sage.checks import suggestion
from sage.errors import ConfigError, MissingExtra

__all__ = ["as_text", "check_consumer", "check_producer", "check_settings", "for_confluent", "for_kafka_python"]

# What only a Java client needs; it changes nothing of the meaning.
_JAVA_ONLY = {
    "key.deserializer", "value.deserializer", "key.serializer", "value.serializer", "max.poll.records",
    "max.poll.interval.ms", "session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy",
    "buffer.memory", "auto.commit.interval.ms", "interceptor.classes", "metric.reporters", "group.instance.id",
}  # fmt: skip
# What a transform sets by itself.
_OURS = {"enable.auto.commit", "auto.offset.reset", "group.id", "transactional.id", "allow.auto.create.topics"}
# The codecs, each with the extra that brings its library to kafka-python.
_CODECS = {"none": "kafka", "gzip": "kafka", "snappy": "snappy", "lz4": "kafka", "zstd": "kafka"}
_JAAS = re.compile(r"(\w+)\s*=\s*\"((?:[^\"\\]|\\.)*)\"")

_TO_KAFKA_PYTHON = {
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.kerberos.service.name": "sasl_kerberos_service_name",
    "max.partition.fetch.bytes": "max_partition_fetch_bytes",
    "fetch.wait.max.ms": "fetch_max_wait_ms",
}
_TO_CONFLUENT = {"fetch.max.wait.ms": "fetch.wait.max.ms", "receive.buffer.bytes": "socket.receive.buffer.bytes"}
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


def as_text(owner: str, config: Mapping[str, Any]) -> dict[str, str]:
    """The configuration with every value as text, as Java has it.

    Raises:
        ConfigError: it is no mapping, or names no broker.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"{owner}: the config must be a dict, not {type(config).__name__}: {config!r}")
    text = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in config.items()}
    if not text.get("bootstrap.servers"):
        near = suggestion("bootstrap.servers", text)
        raise ConfigError(f"{owner}: the config must name a broker as 'bootstrap.servers': 'host:port'{near}")
    return text


def check_consumer(config: Mapping[str, str]) -> None:
    """Refuses what would lose records.

    Raises:
        ConfigError: the message names the setting and what to do instead.
    """
    if config.get("enable.auto.commit", "false").lower() in _TRUE:
        raise ConfigError(
            "ReadFromKafka: enable.auto.commit=true commits offsets of records that are not processed yet: after a "
            "crash they are lost. Take it out; positions live in the checkpoint, and commit_offset_in_finalize=True "
            "commits them to the group once they are safe."
        )
    reset = config.get("auto.offset.reset", "latest")
    if reset not in ("latest", "earliest", "none"):
        raise ConfigError(f"ReadFromKafka: auto.offset.reset must be latest, earliest or none, not {reset!r}")
    isolation = config.get("isolation.level", "read_uncommitted")
    if isolation not in ("read_committed", "read_uncommitted"):
        raise ConfigError(f"ReadFromKafka: isolation.level must be read_committed or read_uncommitted: {isolation!r}")


def check_producer(config: Mapping[str, str], exactly_once: bool) -> None:
    """Refuses what would lose records.

    Raises:
        ConfigError: the message names the setting and what to do instead.
    """
    acks = config.get("acks", "all")
    if acks == "0":
        raise ConfigError("WriteToKafka: acks=0 loses records without a word; leave it out, or take acks=all")
    if not exactly_once:
        if "transactional.id" in config:
            raise ConfigError("WriteToKafka: transactional.id needs exactly_once=True")
        return
    if acks not in ("all", "-1"):
        raise ConfigError(f"WriteToKafka: a transaction needs acks=all, not acks={acks}")
    if config.get("enable.idempotence", "true").lower() in _FALSE:
        raise ConfigError("WriteToKafka: a transaction needs enable.idempotence=true")


def check_settings(owner: str, client: str, config: Mapping[str, str], producer: bool) -> None:
    """Refuses settings that the client does not know, values that are not of their type, and missing codecs.

    Raises:
        ConfigError: a setting is unknown, or is not of its type, or there is no such compression.
        MissingExtra: the compression needs a library that is not installed.
    """
    codec = config.get("compression.type", "none")
    if codec not in _CODECS:
        near = suggestion(codec, _CODECS) or "."
        raise ConfigError(f"{owner}: unknown compression.type={codec!r}{near} Accepted: {', '.join(_CODECS)}")
    try:
        if client == "confluent-kafka":
            _check_librdkafka(for_confluent(config, producer), producer)
        else:
            from kafka import KafkaConsumer, KafkaProducer

            for_kafka_python(config, (KafkaProducer if producer else KafkaConsumer).DEFAULT_CONFIG)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from None
    if client != "confluent-kafka" and producer and codec != "none":
        from kafka import codec as codecs

        if not getattr(codecs, f"has_{codec}")():
            raise MissingExtra(f"{owner}: compression.type={codec} with kafka-python", _CODECS[codec])


def _check_librdkafka(given: Mapping[str, str], producer: bool) -> None:
    """Has librdkafka look at the settings; without brokers it connects nowhere."""
    import confluent_kafka

    # Files of certificates may be at the workers only.
    elsewhere = ("bootstrap.", "ssl.", "sasl.", "security.")
    named: dict[str, Any] = {key: value for key, value in given.items() if not key.startswith(elsewhere)}
    named["log_level"] = 0
    make = confluent_kafka.Producer if producer else confluent_kafka.Consumer
    try:
        client = make(named if producer else {"group.id": "unused", **named})
    except confluent_kafka.KafkaException as error:
        raise ConfigError(f"confluent-kafka: {error.args[0].str() if error.args else error}") from None
    if not producer:
        client.close()


def for_kafka_python(config: Mapping[str, str], known: Mapping[str, Any], lenient: bool = False) -> dict[str, Any]:
    """Keyword arguments for a client of kafka-python.

    Args:
        config: the configuration, with Java's names.
        known: the defaults of the client, by its own names; their types tell what a value must become.
        lenient: whether settings that are unknown are left out, since they are those of another client.

    Raises:
        ConfigError: a setting is unknown, or is not of its type.
    """
    given: dict[str, Any] = {}
    for key, value in _without_java(config).items():
        name = _TO_KAFKA_PYTHON.get(key, key.replace(".", "_"))
        if key == "ssl.endpoint.identification.algorithm":
            given["ssl_check_hostname"] = bool(value)
        elif key == "enable.ssl.certificate.verification" and value.lower() in _FALSE:
            raise ConfigError("kafka-python always verifies the broker's certificate: name its CA as ssl.ca.location")
        elif key == "compression.type" and value == "none":
            continue  # the client's word for it is None
        elif name in known:
            given[name] = _typed(key, value, known[name])
        elif not lenient and not _only_elsewhere(name):
            near = suggestion(key, [*_OURS, *(name.replace("_", ".") for name in known)])
            raise ConfigError(f"kafka-python has no setting {key!r}{near}")
    return given


def for_confluent(config: Mapping[str, str], producer: bool) -> dict[str, Any]:
    """The configuration in the words of librdkafka, which refuses by itself what it does not know."""
    given = {_TO_CONFLUENT.get(key, key): value for key, value in _without_java(config).items()}
    if given.get("ssl.endpoint.identification.algorithm") == "":
        given["ssl.endpoint.identification.algorithm"] = "none"
    given.pop("bootstrap.timeout.ms", None)  # the first connection is made by another client
    if not producer:
        given.pop("acks", None)
    return given


def _without_java(config: Mapping[str, str]) -> dict[str, str]:
    """Without what only Java needs or a transform sets; a JAAS line and PEM stores in other words."""
    given = {key: value for key, value in config.items() if key not in _JAVA_ONLY and key not in _OURS}
    jaas = given.pop("sasl.jaas.config", None)
    if jaas is not None:
        found = dict(_JAAS.findall(jaas))
        if not {"username", "password"} <= set(found):
            raise ConfigError("sasl.jaas.config: only a login module with username and password is understood")
        given["sasl.username"], given["sasl.password"] = found["username"], found["password"]
    _pem_store(given, "truststore", ("ssl.ca.location",))
    _pem_store(given, "keystore", ("ssl.certificate.location", "ssl.key.location"))
    return given


def _pem_store(given: dict[str, str], store: str, names: Collection[str]) -> None:
    kind = given.pop(f"ssl.{store}.type", "JKS").upper()
    path = given.pop(f"ssl.{store}.location", None)
    given.pop(f"ssl.{store}.password", None)
    if path is None:
        return
    if kind != "PEM":
        raise ConfigError(
            f"ssl.{store}.location: a {kind} store is Java's own. Export it as PEM and name it as "
            f"{' and '.join(names)}, or set ssl.{store}.type=PEM"
        )
    for name in names:
        given.setdefault(name, path)


def _only_elsewhere(name: str) -> bool:
    """Whether one of the other clients has it: reader, writer and admin share a configuration."""
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    return any(name in client.DEFAULT_CONFIG for client in (KafkaAdminClient, KafkaConsumer, KafkaProducer))


def _typed(key: str, value: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            if value.lower() not in (*_TRUE, *_FALSE):
                raise ValueError
            return value.lower() in _TRUE
        if key == "acks":
            return value if value == "all" else int(value)
        if isinstance(default, int) or (isinstance(default, float) and value.isdigit()):
            return int(value)
        without_default = default is None and key.endswith((".ms", ".bytes"))
        return int(value) if without_default else value
    except ValueError:
        raise ConfigError(f"{key}={value!r} is not a {type(default).__name__}") from None
