"""Records on their way to a client: what Kafka cannot take is one error that names the record and what to do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from sage.transforms.io.kafka.records import KafkaHeader, KafkaRecord

__all__ = ["checked_pairs", "checked_record"]

_PLAIN = frozenset({bytes, type(None)})
_BYTES = (bytes, bytearray, memoryview)
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_MOST_PARTITION, _MOST_TIMESTAMP = (1 << 31) - 1, (1 << 63) - 1


def checked_pairs(topic: str, rows: Sequence[Any]) -> Sequence[tuple[bytes | None, bytes | None]]:
    """Returns the rows as pairs of bytes or None.

    Raises:
        TypeError: a row is no pair, or its key or value is neither bytes nor None.
    """
    try:
        if {*map(type, itertools.chain.from_iterable(rows))} <= _PLAIN and {*map(len, rows)} <= {2}:
            return rows
    except TypeError:
        pass  # one is no pair at all: found below
    return [_pair(topic, row) for row in rows]


def _pair(topic: str, row: Any) -> tuple[bytes | None, bytes | None]:
    if not isinstance(row, tuple | list) or len(row) != 2:
        _refuse(topic, row, f"an element must be a (key, value) pair, and this is {_kind(row)}")
    key, value = row
    return _as_bytes(topic, row, "key", key), _as_bytes(topic, row, "value", value)


def _as_bytes(topic: str, row: Any, what: str, part: Any) -> bytes | None:
    if part is None or part.__class__ is bytes:
        return part
    if not isinstance(part, _BYTES):
        _refuse(
            topic,
            row,
            f"the {what} is {_kind(part)}, and Kafka takes bytes. Give {what}_serializer, such as "
            "'org.apache.kafka.common.serialization.StringSerializer' for text, or encode it in the step before",
        )
    return bytes(part)


def checked_record(record: KafkaRecord) -> KafkaRecord:
    """Returns a record with key, value and header values as bytes or None.

    Raises:
        TypeError: a part of it is of a wrong type.
        ValueError: a number or the topic's name is not one that Kafka takes.
    """
    topic = record.topic
    if not isinstance(topic, str):
        _refuse(topic, record, f"the topic must be a str, not {_kind(topic)}")
    if topic in (".", "..") or not _TOPIC.fullmatch(topic):
        _refuse(
            topic, record, "a topic's name has 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'", ValueError
        )
    for what, number, most, unit in (
        ("partition", record.partition, _MOST_PARTITION, "the number of one"),
        ("timestamp", record.timestamp, _MOST_TIMESTAMP, "milliseconds since the epoch"),
    ):
        if isinstance(number, bool) or not isinstance(number, int):
            _refuse(topic, record, f"the {what} must be an int, {unit}, not {_kind(number)}")
        if not -1 <= number <= most:
            _refuse(topic, record, f"the {what} must be {unit}, not {number}", ValueError)
    return record._replace(
        key=_part(record, "key", record.key),
        value=_part(record, "value", record.value),
        headers=tuple(_header(record, *header) for header in record.headers),
    )


def _part(record: KafkaRecord, what: str, part: Any) -> bytes | None:
    if part is not None and not isinstance(part, _BYTES):
        why = f"the {what} must be bytes or None, not {_kind(part)}: encode it in the step before"
        _refuse(record.topic, record, why)
    return None if part is None else bytes(part)


def _header(record: KafkaRecord, key: Any, value: Any) -> KafkaHeader:
    if not isinstance(key, str):
        _refuse(record.topic, record, f"the key of a header must be a str, not {_kind(key)}")
    return KafkaHeader(key, _part(record, f"value of the header {key!r}", value))


def _kind(value: Any) -> str:
    return f"{value!r:.80} of type {type(value).__name__}"


def _refuse(topic: Any, row: Any, why: str, error: type[Exception] = TypeError) -> NoReturn:
    shown = f"key {row.key!r:.80}, value {row.value!r:.80}" if isinstance(row, KafkaRecord) else f"{row!r:.200}"
    raise error(f"topic {topic!r}: a record cannot be written: {why}. The record: {shown}")
