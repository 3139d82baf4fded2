"""Kafka as a stream source: a split is a partition, a position is an offset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage.errors import ConfigError, SageError
from sage.sources import Batch, SplitReader, StreamSource
from sage.transforms.dead_letter import DeadLetter, shorten
from sage.transforms.io.kafka.clients import Consumer, OutOfRange, Partition
from sage.transforms.io.kafka.control import Control
from sage.transforms.io.kafka.opening import open_consumer
from sage.transforms.io.kafka.records import LOG_APPEND_TIME, KafkaRecord
from sage.transforms.io.kafka.shared import SharedConsumer, Watcher, as_loss

__all__ = ["CREATE_TIME_POLICY", "LOG_APPEND_TIME_POLICY", "PROCESSING_TIME_POLICY", "KafkaSource", "Reading", "Split"]

PROCESSING_TIME_POLICY, CREATE_TIME_POLICY, LOG_APPEND_TIME_POLICY = "ProcessingTime", "CreateTime", "LogAppendTime"
_BEFORE_ALL = -(2**62)


@dataclass(frozen=True)
class Reading:
    """What is read, and how. See `sage.transforms.io.kafka.ReadFromKafka` for the meaning of each."""

    config: dict[str, str]
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    client: str = "kafka-python"
    key: Callable[[bytes], Any] | None = None
    value: Callable[[bytes], Any] | None = None
    start_ms: int | None = None
    policy: str = PROCESSING_TIME_POLICY
    with_metadata: bool = False
    commit_offsets: bool = False
    dead_letters: bool = False
    max_delay_ms: int = 0
    idle_timeout_ms: int = 2_000
    discovery_ms: int | None = None

    @property
    def group(self) -> str | None:
        """The consumer group, if there is one."""
        return self.config.get("group.id")

    @property
    def isolation(self) -> str:
        """``read_committed`` or ``read_uncommitted``."""
        return self.config.get("isolation.level", "read_uncommitted")


@dataclass(frozen=True, order=True)
class Split:
    """A partition to read.

    Attributes:
        topic: the topic.
        number: the partition's number.
        appeared: whether it was not there when reading began: then all of it is read.
    """

    topic: str
    number: int
    appeared: bool = field(default=False, compare=False)

    @property
    def partition(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.number)


class KafkaSource(StreamSource[Any]):
    """Reads topics; gives key-value pairs or `KafkaRecord`, and a `DeadLetter` for what cannot be decoded if wanted.

    State, in an opened one: a consumer shared by its readers, and the thread that watches the ends of partitions.
    """

    def __init__(self, reading: Reading, now_ms: Callable[[], int] | None = None) -> None:
        self.reading = reading
        self.discovery_ms = reading.discovery_ms
        self.now_ms = now_ms or _wall_ms
        self._shared: SharedConsumer | None = None
        self._watcher: Watcher | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shared": None, "_watcher": None}

    def splits(self) -> Sequence[Split]:
        with self._control() as control:
            found = control.partitions(self.reading.topics, self.reading.pattern)
        return [Split(*partition) for partition in found]

    def appeared(self, split: Split) -> Split:
        return Split(split.topic, split.number, appeared=True)

    def _control(self) -> Control:
        return Control(self.reading.config)

    def open(self) -> None:
        self._shared = SharedConsumer(open_consumer(self.reading.client, self.reading.config))
        self._watcher = Watcher(self._control, self.reading.group, self.now_ms)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        if self._shared is not None:
            self._shared.close()
        self._watcher = self._shared = None

    def reader(self, split: Split, position: int | None) -> PartitionReader:
        if self._shared is None or self._watcher is None:
            self.open()
        assert self._shared is not None
        assert self._watcher is not None
        offset = self._start(split) if position is None else position
        return PartitionReader(self, split.partition, offset, self._shared, self._watcher)

    def _start(self, split: Split) -> int:
        """Where to begin: a time that was asked for, what the group has committed, or what the config says."""
        reading, each = self.reading, split.partition
        with self._control() as control:
            if reading.start_ms is not None:
                return control.at_time([each], reading.start_ms)[each]
            committed = control.group_offsets(reading.group, [each]) if reading.group else {}
            if each in committed:
                return committed[each]
            reset = reading.config.get("auto.offset.reset", "latest")
            if reset == "earliest" or split.appeared:
                return control.starts([each])[each]
            if reset == "latest":
                return control.ends([each], reading.isolation)[each]
        raise ConfigError(f"group {reading.group!r} has no offset for {each}, and auto.offset.reset is none")


class PartitionReader(SplitReader[Any]):
    """Reads one partition in order. A position is the offset of the next record."""

    def __init__(
        self, source: KafkaSource, partition: Partition, offset: int, shared: SharedConsumer, watcher: Watcher
    ) -> None:
        self._reading = source.reading
        self._now_ms = source.now_ms
        self._partition = partition
        self._next = offset
        self._shared = shared
        self._watcher = watcher
        self._watermark_ms = _BEFORE_ALL
        shared.add(partition, offset)
        watcher.watch(partition)

    def poll(self, limit: int) -> Batch | None:
        try:
            messages = self._shared.take(self._partition, limit)
        except OutOfRange as error:
            raise self._loss(error) from error
        if not messages:
            self._watcher.check()
            return None
        consumer = self._shared.consumer
        times = self._times(consumer, messages)
        values = _decoded(self._reading, consumer, messages)
        self._next = consumer.offsets(messages[-1:])[0] + 1
        return Batch(values, times)

    def _times(self, consumer: Consumer, messages: list[Any]) -> list[int] | int:
        """Event times (microseconds); the watermark goes with them."""
        policy = self._reading.policy
        if policy == PROCESSING_TIME_POLICY:
            return self._now_ms() * 1000
        stamped = consumer.timestamps(messages)
        if policy == LOG_APPEND_TIME_POLICY and any(kind != LOG_APPEND_TIME for kind, _ in stamped):
            raise ConfigError(
                f"topic {self._partition.topic!r}: its records carry no append time; set message.timestamp.type="
                "LogAppendTime for the topic, or read it with timestamp_policy='CreateTime'"
            )
        latest = max(time for _, time in stamped)
        delay = self._reading.max_delay_ms if policy == CREATE_TIME_POLICY else 0
        self._watermark_ms = max(self._watermark_ms, latest - delay)
        return [time * 1000 for _, time in stamped]

    def position(self) -> int:
        return self._next

    def watermark(self) -> int:
        if self._reading.policy == PROCESSING_TIME_POLICY:
            self._watermark_ms = self._now_ms()
        else:
            ends = self._watcher.ends(self._partition)
            # Only what was seen to be empty moves time on: from a broker that is away, records may still come.
            if ends is not None and max(self._next, self._shared.passed(self._partition)) >= ends.offset:
                self._watermark_ms = max(self._watermark_ms, ends.asked_ms - self._reading.idle_timeout_ms)
        return self._watermark_ms * 1000

    def lag(self) -> int | None:
        ends = self._watcher.ends(self._partition)
        return None if ends is None else max(0, ends.offset - max(self._next, self._shared.passed(self._partition)))

    def committed(self, position: int) -> None:
        if self._reading.commit_offsets:
            self._watcher.commit(self._partition, position)

    def close(self) -> None:
        self._watcher.forget(self._partition)
        self._shared.remove(self._partition)

    def _loss(self, error: OutOfRange) -> SageError:
        each = error.partition
        with Control(self._reading.config) as control:
            starts, ends = control.starts([each]), control.ends([each], "read_uncommitted")
        return as_loss(error, starts, ends, self._next)


def _decoded(reading: Reading, consumer: Consumer, messages: list[Any]) -> list[Any]:
    if reading.with_metadata:
        records = consumer.records(messages)
        if reading.key is None and reading.value is None:
            return records
        return [_record(reading, record) for record in records]
    pairs = consumer.pairs(messages)
    key, value = reading.key, reading.value
    if key is None and value is None:
        return pairs
    try:
        if key is None:
            assert value is not None
            return [(k, None if v is None else value(v)) for k, v in pairs]
        if value is None:
            return [(None if k is None else key(k), v) for k, v in pairs]
        return [(None if k is None else key(k), None if v is None else value(v)) for k, v in pairs]
    except Exception:  # which of them it was, the slow way tells
        return [_pair(reading, record) for record in consumer.records(messages)]


def _pair(reading: Reading, record: KafkaRecord) -> Any:
    found = _record(reading, record)
    return (found.key, found.value) if isinstance(found, KafkaRecord) else found


def _record(reading: Reading, record: KafkaRecord) -> Any:
    part = "key"
    try:
        key = record.key if reading.key is None or record.key is None else reading.key(record.key)
        part = "value"
        value = record.value if reading.value is None or record.value is None else reading.value(record.value)
    except Exception as error:
        where = f"topic {record.topic!r}, partition {record.partition}, offset {record.offset}"
        reason = f"{where}: its {part} cannot be decoded: {type(error).__name__}: {error}"
        if not reading.dead_letters:
            raise ValueError(reason) from error
        shown = record.key if part == "key" else record.value
        payload, source = shown.decode("utf-8", "backslashreplace"), f"{record.topic}-{record.partition}"
        return DeadLetter("ReadFromKafka", reason, shorten(payload), source, record.offset)
    return record._replace(key=key, value=value)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
