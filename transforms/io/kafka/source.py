"""Kafka as a stream source: a split is a partition, a position is an offset."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage.errors import ConfigError, SageError
from sage.sources import Batch, SplitReader, StreamSource
from sage.transforms.dead_letter import DeadLetter, shorten
from sage.transforms.io.kafka.admin import BrokerAdmin
from sage.transforms.io.kafka.client_factory import open_consumer
from sage.transforms.io.kafka.clients import Chunk, OutOfRange, Partition
from sage.transforms.io.kafka.event_time import BEFORE_ALL, EventTime
from sage.transforms.io.kafka.records import LOG_APPEND_TIME, KafkaRecord
from sage.transforms.io.kafka.shared import SharedConsumer, Watcher, as_loss

__all__ = [
    "CREATE_TIME_POLICY",
    "LOG_APPEND_TIME_POLICY",
    "PROCESSING_TIME_POLICY",
    "KafkaSource",
    "ReadConfig",
    "Split",
    "accepts_topic",
]

PROCESSING_TIME_POLICY, CREATE_TIME_POLICY, LOG_APPEND_TIME_POLICY = "ProcessingTime", "CreateTime", "LogAppendTime"


@dataclass(frozen=True)
class ReadConfig:
    """What is read, and how. See `sage.transforms.io.kafka.ReadFromKafka` for the meaning of each."""

    config: dict[str, str]
    topics: tuple[str, ...] = ()
    pattern: str | None = None
    client: str = "kafka-python"
    key: Callable[[bytes], Any] | None = None
    value: Callable[[bytes], Any] | None = None
    start_ms: int | None = None
    start_offsets: Mapping[Partition, int] = field(default_factory=dict)
    policy: str = PROCESSING_TIME_POLICY
    with_metadata: bool = False
    commit_offsets: bool = False
    dead_letters: bool = False
    max_delay_ms: int = 0
    idle_timeout_ms: int = 2_000
    max_lead_ms: int | None = 0
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
    discovered: bool = field(default=False, compare=False)

    @property
    def partition(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.number)

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


def accepts_topic(reading: ReadConfig, topic: str) -> bool:
    """Whether a topic is among those to read."""
    return topic in reading.topics or (reading.pattern is not None and re.fullmatch(reading.pattern, topic) is not None)


class KafkaSource(StreamSource[Any]):
    """Reads topics; gives key-value pairs or `KafkaRecord`, and a `DeadLetter` for what cannot be decoded if wanted.

    State, in an opened one: a consumer shared by its readers, and the thread that watches the ends of partitions.
    """

    max_poll_records = 1_000

    def __init__(self, reading: ReadConfig, now_ms: Callable[[], int] | None = None) -> None:
        self.reading = reading
        self.discovery_ms = reading.discovery_ms
        self.max_watermark_lead_ms = reading.max_lead_ms
        self.watermark_alignment = reading.policy != PROCESSING_TIME_POLICY
        self.now_ms = now_ms or _wall_ms
        self._shared: SharedConsumer | None = None
        self._watcher: Watcher | None = None
        self._asks: BrokerAdmin | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shared": None, "_watcher": None, "_asks": None}

    def splits(self) -> Sequence[Split]:
        with self._admin() as control:
            found = control.partitions(self.reading.topics, self.reading.pattern)
        return [Split(*partition) for partition in found]

    def on_discovered(self, split: Split) -> Split:
        return Split(split.topic, split.number, discovered=True)

    def accepts(self, split: Split) -> bool:
        return accepts_topic(self.reading, split.topic)

    def _admin(self) -> BrokerAdmin:
        return BrokerAdmin(self.reading.config)

    def open(self) -> None:
        reading = self.reading
        timed = reading.policy != PROCESSING_TIME_POLICY
        self._shared = SharedConsumer(open_consumer(reading.client, reading.config, reading.with_metadata, timed))
        self._watcher = Watcher(self._admin, self.reading.group, self.now_ms)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        if self._shared is not None:
            self._shared.close()
        if self._asks is not None:
            self._asks.close()
        self._watcher = self._shared = self._asks = None

    def reader(self, split: Split, position: int | None) -> PartitionReader:
        if self._shared is None or self._watcher is None:
            self.open()
        assert self._shared is not None
        assert self._watcher is not None
        offset = self._start(split) if position is None else position
        return PartitionReader(self, split.partition, offset, self._shared, self._watcher)

    def _start(self, split: Split) -> int:
        """Where to begin: an offset or a time that was asked for, what the group has committed, or what the config
        says.
        """
        reading, each = self.reading, split.partition
        if self._asks is None:
            self._asks = self._admin()
        if each in reading.start_offsets:
            return self._checked(each, reading.start_offsets[each])
        if reading.start_ms is not None:
            return self._asks.at_time([each], reading.start_ms)[each]
        committed = self._asks.group_offsets(reading.group, [each]) if reading.group else {}
        if each in committed:
            return committed[each]
        reset = reading.config.get("auto.offset.reset", "latest")
        if reset == "earliest" or split.discovered:
            return self._asks.starts([each])[each]
        if reset == "latest":
            return self._asks.ends([each], reading.isolation)[each]
        raise ConfigError(f"group {reading.group!r} has no offset for {each}, and auto.offset.reset is none")

    def _checked(self, each: Partition, offset: int) -> int:
        assert self._asks is not None
        start, end = self._asks.starts([each])[each], self._asks.ends([each], "read_uncommitted")[each]
        if not start <= offset <= end:
            raise ConfigError(f"start_offsets: {each} has offsets from {start} to {end}; it cannot begin at {offset}")
        return offset


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
        self._watermark_ms = BEFORE_ALL
        self._delay_ms = source.reading.max_delay_ms if source.reading.policy == CREATE_TIME_POLICY else 0
        self._event_time = EventTime(source.reading.max_lead_ms)
        self._dry = False  # whether the last poll gave nothing
        shared.add(partition, offset)
        watcher.watch(partition)

    def poll(self, limit: int) -> Batch | None:
        try:
            chunk = self._shared.take(self._partition, limit)
        except OutOfRange as error:
            raise self._loss(error) from error
        self._dry = chunk is None
        if chunk is None:
            self._watcher.check()
            return None
        times = self._times(chunk)
        values = _decoded(self._reading, self._partition, chunk)
        self._next = chunk.offsets[-1] + 1
        return Batch(values, times)

    def _times(self, chunk: Chunk) -> list[int] | int:
        """Event times (microseconds); the watermark goes with those that the clock has come to."""
        policy = self._reading.policy
        if policy == PROCESSING_TIME_POLICY:
            return self._now_ms() * 1000
        if policy == LOG_APPEND_TIME_POLICY and chunk.kinds != {LOG_APPEND_TIME}:
            raise ConfigError(
                f"topic {self._partition.topic!r}: its records carry no append time; set message.timestamp.type="
                "LogAppendTime for the topic, or read it with timestamp_policy='CreateTime'"
            )
        self._event_time.observe(chunk.millis, self._now_ms())
        return [millis * 1000 for millis in chunk.millis]

    @property
    def ready(self) -> bool:
        return self._shared.has(self._partition)

    def position(self) -> int:
        return self._next

    def watermark(self) -> int:
        if self._reading.policy == PROCESSING_TIME_POLICY:
            self._watermark_ms = self._now_ms()
        else:
            reached = self._event_time.newest(self._now_ms()) - self._delay_ms
            self._watermark_ms = max(self._watermark_ms, reached)
            ends = self._watcher.ends(self._partition)
            # Only what was seen to be empty moves time on: from a broker that is away, records may still come.
            if ends is not None and self._reached() >= ends.offset:
                self._watermark_ms = max(self._watermark_ms, ends.asked_ms - self._reading.idle_timeout_ms)
        return self._watermark_ms * 1000

    def lag(self) -> int | None:
        ends = self._watcher.ends(self._partition)
        return None if ends is None else max(0, ends.offset - self._reached())

    def _reached(self) -> int:
        """The offset behind what was read, and behind what follows it that is no record."""
        return max(self._next, self._shared.passed(self._partition)) if self._dry else self._next

    def committed(self, position: int) -> None:
        if self._reading.commit_offsets:
            self._watcher.commit(self._partition, position)

    def close(self) -> None:
        self._watcher.forget(self._partition)
        self._shared.remove(self._partition)

    def _loss(self, error: OutOfRange) -> SageError:
        each = error.partition
        with BrokerAdmin(self._reading.config) as control:
            starts, ends = control.starts([each]), control.ends([each], "read_uncommitted")
        return as_loss(error, starts, ends, self._next)


def _decoded(reading: ReadConfig, partition: Partition, chunk: Chunk) -> list[Any]:
    key, value, rows = reading.key, reading.value, chunk.rows
    if key is None and value is None:
        return rows
    try:
        if reading.with_metadata:
            return [row._replace(key=_value(key, row.key), value=_value(value, row.value)) for row in rows]
        if key is None and value is not None:
            return [(k, None if v is None else value(v)) for k, v in rows]
        return [(_value(key, k), _value(value, v)) for k, v in rows]
    except Exception:  # which of them it was, the slow way tells
        return [_one(reading, partition, offset, row) for offset, row in zip(chunk.offsets, rows, strict=True)]


def _value(decode: Callable[[bytes], Any] | None, data: bytes | None) -> Any:
    return data if decode is None or data is None else decode(data)


def _one(reading: ReadConfig, partition: Partition, offset: int, row: Any) -> Any:
    """A row decoded, or the dead letter that says why it cannot be."""
    whole = isinstance(row, KafkaRecord)
    raw = (row.key, row.value) if whole else row
    part, data = "key", raw[0]
    try:
        key = _value(reading.key, data)
        part, data = "value", raw[1]
        value = _value(reading.value, data)
    except Exception as error:
        where = f"topic {partition.topic!r}, partition {partition.number}, offset {offset}"
        reason = f"{where}: its {part} cannot be decoded: {type(error).__name__}: {error}"
        if not reading.dead_letters:
            raise ValueError(reason) from error
        payload = data.decode("utf-8", "backslashreplace")
        return DeadLetter("ReadFromKafka", reason, shorten(payload), str(partition), offset)
    return row._replace(key=key, value=value) if whole else (key, value)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
