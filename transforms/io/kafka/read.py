"""Reading topics, in the call shape of Beam's own connector."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints.
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.typehints import Tuple

from sage.errors import ConfigError
from sage.sources import ReadStream, StreamSource
from sage.transforms.dead_letter import DEAD, GOOD, DeadLetter, ReadResult
from sage.transforms.io.kafka import config as configs
from sage.transforms.io.kafka import source as sources
from sage.transforms.io.kafka.bounded import FirstRecords
from sage.transforms.io.kafka.client_factory import check_client
from sage.transforms.io.kafka.clients import Partition
from sage.transforms.io.kafka.records import BYTES, KafkaRecord, deserializer

__all__ = ["ReadFromKafka"]

_POLICIES = (sources.PROCESSING_TIME_POLICY, sources.CREATE_TIME_POLICY, sources.LOG_APPEND_TIME_POLICY)
_UNDECODABLE = ("raise", "dead_letter")


class ReadFromKafka(beam.PTransform):
    """Reads topics; no JVM, no expansion service. Gives ``(key, value)`` pairs, or `KafkaRecord` with metadata.

    A pipeline that uses ``apache_beam.io.kafka.ReadFromKafka`` ports by changing the import. What is different: the
    (de)serializers may be Python callables, keys and values that are missing are None, new partitions are found by
    default, and a broken or expired position is an error, never a silent jump.

    Promise: positions live in the checkpoint. With checkpoints each record is read once; without, a job that is
    started again begins where its group has committed, or as ``auto.offset.reset`` says (Kafka's default is
    ``latest``). Offsets go to the group only after the checkpoint that holds them is durable.

    Order: records of one partition stay in order. Watermark: that of the slowest partition. A partition with nothing
    left to read does not hold it back: when the broker says so, its watermark follows the clock, ``idle_timeout_ms``
    behind. While the broker does not answer, it stands still. A record with a timestamp ahead of the clock keeps it,
    but moves the watermark only when the clock has come to that time: one that is wrongly stamped years ahead does not
    make those behind it late.

    A broker that is away is waited for, with a warning every 30 seconds. A topic that is deleted ends the job. Where a
    checkpoint holds positions in a topic that is not named any more, the job refuses to go on from it; with
    ``--allow_dropped_state`` it leaves that topic behind.

    Args:
        consumer_config: Kafka's consumer settings by their Java names; at least ``bootstrap.servers``. ``group.id``,
            ``isolation.level``, ``auto.offset.reset``, SASL and TLS settings are understood for every client.
        topics: the topics to read.
        key_deserializer: a callable from bytes, or the Java name of a common one; default: bytes as they are.
        value_deserializer: the same for values.
        start_read_time: where to begin (ms since the epoch): the first record at or after it, in each partition.
        max_num_records: ends after so many records (count). For tests and demonstrations: one worker reads all.
        max_read_time: ends after this time (seconds). For tests and demonstrations, too.
        commit_offset_in_finalize: commit offsets to the group ``group.id``, for others to see.
        timestamp_policy: what the event time is: ``ProcessingTime``, ``CreateTime`` or ``LogAppendTime``.
        consumer_polling_timeout: taken for compatibility; polling does not wait here.
        with_metadata: gives `KafkaRecord` with topic, partition, offset, timestamp and headers.
        expansion_service: taken for compatibility; none is used.
        redistribute: spreads the records over all workers (a Reshuffle), where partitions are few.
        redistribute_num_keys: taken for compatibility.
        allow_duplicates: taken for compatibility.
        dynamic_read_poll_interval_seconds: how often to look for new partitions; None for never.
        consumer_factory_fn_class: refused: it is a Java class.
        consumer_factory_fn_params: refused.
        topic_pattern: a regular expression; all topics whose whole name it matches are read, new ones too. There may be
            none at first.
        start_offsets: where to begin, as ``{topic: {partition: offset}}``: the first record to read. It goes before
            ``start_read_time`` and the group; partitions that are not named begin as without it.
        client: ``kafka-python``, or ``confluent-kafka``, which is several times faster and comes with an extra.
        undecodable: what happens to a record that a deserializer raises on: ``raise`` ends the job with an error that
            names topic, partition and offset; with ``dead_letter`` the transform gives a `ReadResult` of good records
            and dead letters.
        max_delay_ms: with ``CreateTime``, how far (ms) records may be out of order before they are late.
        idle_timeout_ms: see Watermark above (ms).
        max_watermark_lead_ms: how far ahead of the clock timestamps may be to move the watermark at once (ms); None for
            no limit: where topics hold simulated time that is rightly ahead of the clock.

    Raises:
        ConfigError: a setting is wrong, or would lose records (``enable.auto.commit``).
        MissingExtra: the client is not installed.
        ConnectionError: when run, if no broker answers within 10 s, or the ``bootstrap.timeout.ms`` of the config (ms).
        DataLoss: when run, if the position to go on from is not in the log any more.
    """

    byte_array_deserializer = f"{BYTES}Deserializer"
    processing_time_policy = sources.PROCESSING_TIME_POLICY
    create_time_policy = sources.CREATE_TIME_POLICY
    log_append_time = sources.LOG_APPEND_TIME_POLICY

    def __init__(
        self,
        consumer_config: Mapping[str, Any],
        topics: Iterable[str] = (),
        key_deserializer: str | Callable[[bytes], Any] = byte_array_deserializer,
        value_deserializer: str | Callable[[bytes], Any] = byte_array_deserializer,
        start_read_time: int | None = None,
        max_num_records: int | None = None,
        max_read_time: float | None = None,
        commit_offset_in_finalize: bool = False,
        timestamp_policy: str = processing_time_policy,
        consumer_polling_timeout: int | None = 2,
        with_metadata: bool = False,
        expansion_service: Any = None,
        redistribute: bool = False,
        redistribute_num_keys: Any = 0,
        allow_duplicates: bool = False,
        dynamic_read_poll_interval_seconds: float | None = 30,
        consumer_factory_fn_class: str | None = None,
        consumer_factory_fn_params: Any = None,
        *,
        topic_pattern: str | None = None,
        start_offsets: Mapping[str, Mapping[int, int]] | None = None,
        client: str = "kafka-python",
        undecodable: str = "raise",
        max_delay_ms: int = 0,
        idle_timeout_ms: int = 2_000,
        max_watermark_lead_ms: int | None = 0,
    ) -> None:
        super().__init__()
        if isinstance(topics, str):
            raise ConfigError(f"ReadFromKafka: topics must be a list, not {topics!r}")
        for name, value, known in (
            ("timestamp_policy", timestamp_policy, _POLICIES),
            ("undecodable", undecodable, _UNDECODABLE),
        ):
            if value not in known:
                raise ConfigError(f"ReadFromKafka: {name} must be one of {', '.join(known)}, not {value!r}")
        if consumer_factory_fn_class or consumer_factory_fn_params:
            raise ConfigError("ReadFromKafka: consumer_factory_fn_class is a Java class; there is no JVM here")
        bounded = max_num_records is not None or max_read_time is not None
        poll_s = None if bounded else dynamic_read_poll_interval_seconds
        self.reading = sources.ReadConfig(
            config=configs.as_text("ReadFromKafka", consumer_config),
            topics=tuple(topics),
            pattern=topic_pattern,
            client=client,
            key=deserializer(key_deserializer),
            value=deserializer(value_deserializer),
            start_ms=start_read_time,
            start_offsets=_offsets(start_offsets or {}),
            policy=timestamp_policy,
            with_metadata=with_metadata,
            commit_offsets=commit_offset_in_finalize,
            dead_letters=undecodable == "dead_letter",
            max_delay_ms=max_delay_ms,
            idle_timeout_ms=idle_timeout_ms,
            max_lead_ms=max_watermark_lead_ms,
            discovery_ms=None if poll_s is None else round(poll_s * 1000),
        )
        self.max_num_records = max_num_records
        self.max_read_time = max_read_time
        self.redistribute = redistribute
        self._check()

    def _check(self) -> None:
        reading = self.reading
        configs.check_consumer(reading.config)
        if bool(reading.topics) == bool(reading.pattern):
            raise ConfigError("ReadFromKafka: name the topics, or give a topic_pattern")
        if reading.pattern is not None:
            try:
                re.compile(reading.pattern)
            except re.error as error:
                raise ConfigError(f"ReadFromKafka: topic_pattern={reading.pattern!r} is none: {error}") from None
        for topic, number in reading.start_offsets:
            if not sources.accepts_topic(reading, topic):
                raise ConfigError(f"ReadFromKafka: start_offsets names {topic}-{number}, which is not read")
        if reading.commit_offsets and not reading.group:
            raise ConfigError("ReadFromKafka: commit_offset_in_finalize needs a 'group.id' in consumer_config")
        check_client("ReadFromKafka", reading.client)
        configs.check_settings("ReadFromKafka", reading.client, reading.config, producer=False)

    def expand(self, pbegin: Any) -> Any:
        source: StreamSource[Any] = sources.KafkaSource(self.reading)
        if self.max_num_records is not None or self.max_read_time is not None:
            source = FirstRecords(source, self.max_num_records, self.max_read_time)  # type: ignore[arg-type]
        read = pbegin | "Read" >> ReadStream(source)
        kind = KafkaRecord if self.reading.with_metadata else Tuple[Any, Any]
        dead = None
        if self.reading.dead_letters:
            read, dead = read | "Sort" >> beam.ParDo(_Sort()).with_outputs(DEAD, main=GOOD)
            dead.element_type = DeadLetter
        read.element_type = kind
        if self.redistribute:
            read = read | "Redistribute" >> beam.Reshuffle()
        return read if dead is None else ReadResult(read, dead)


def _offsets(given: Mapping[str, Mapping[int, int]]) -> dict[Partition, int]:
    try:
        found = {Partition(topic, n): offset for topic, parts in given.items() for n, offset in parts.items()}
    except AttributeError:
        found = {Partition("", 0): -1}
    if not all(type(n) is int and type(offset) is int and offset >= 0 for (_, n), offset in found.items()):
        raise ConfigError(f"ReadFromKafka: start_offsets must be {{topic: {{partition: offset}}}}, not {given!r}")
    return found


class _Sort(beam.DoFn):
    def process(self, element: Any) -> Iterable[Any]:
        yield beam.pvalue.TaggedOutput(DEAD, element) if isinstance(element, DeadLetter) else element
