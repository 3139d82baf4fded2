"""What a Kafka record is, and how its bytes become values and back.

Beam's cross-language connector names Java classes for that. The common ones are known here by their Java names; any
Python callable does as well.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from sage.checks import suggestion
from sage.errors import ConfigError

__all__ = ["BYTES", "NO_TIMESTAMP", "KafkaHeader", "KafkaRecord", "deserializer", "serializer"]

BYTES = "org.apache.kafka.common.serialization.ByteArray"
NO_TIMESTAMP, CREATE_TIME, LOG_APPEND_TIME = -1, 0, 1
_PACKAGE = "org.apache.kafka.common.serialization."
_NUMBERS = {"Integer": ">i", "Long": ">q", "Short": ">h", "Float": ">f", "Double": ">d"}


class KafkaHeader(NamedTuple):
    """One header of a record; a key may occur more than once, and its value may be None."""

    key: str
    value: bytes | None


class KafkaRecord(NamedTuple):
    """A record with everything that Kafka knows of it, named as in Beam's ``KafkaIO``.

    Attributes:
        topic: the topic.
        partition: the number of the partition.
        offset: the place in the partition.
        timestamp: milliseconds since the epoch, -1 if the record has none.
        timestampTypeId: what the timestamp is: 0 the producer's time, 1 the broker's, -1 nothing.
        timestampTypeName: the same as a word: ``CreateTime``, ``LogAppendTime``, ``NoTimestampType``.
        key: the key, deserialized; None where there is none.
        value: the value, deserialized; None where there is none (a tombstone).
        headers: the headers, in order.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestampTypeId: int
    timestampTypeName: str
    key: Any
    value: Any
    headers: tuple[KafkaHeader, ...]


def timestamp_type_name(kind: int) -> str:
    """The name of a timestamp type, as Java has it."""
    return {CREATE_TIME: "CreateTime", LOG_APPEND_TIME: "LogAppendTime"}.get(kind, "NoTimestampType")


def deserializer(named: str | Callable[[bytes], Any]) -> Callable[[bytes], Any] | None:
    """A function from bytes to a value, from a Java class name or a callable; None leaves bytes as they are.

    Raises:
        ConfigError: the class is not known here.

    >>> deserializer("org.apache.kafka.common.serialization.LongDeserializer")(bytes(7) + b"*")
    42
    """
    if callable(named):
        return named
    return _known(named, "Deserializer", _number_from, bytes.decode)


def serializer(named: str | Callable[[Any], bytes]) -> Callable[[Any], bytes] | None:
    """A function from a value to bytes, from a Java class name or a callable; None leaves bytes as they are.

    Raises:
        ConfigError: the class is not known here.
    """
    if callable(named):
        return named
    return _known(named, "Serializer", _number_to, str.encode)


def _known(named: str, suffix: str, number: Callable[[str], Any], text: Any) -> Any:
    functions = {f"{_PACKAGE}{name}{suffix}": number(layout) for name, layout in _NUMBERS.items()}
    functions[f"{_PACKAGE}String{suffix}"] = text
    functions[f"{_PACKAGE}ByteArray{suffix}"] = None
    functions[f"{_PACKAGE}Bytes{suffix}"] = None
    if named not in functions:
        raise ConfigError(
            f"{named!r} is no {suffix.lower()} that is known here{suggestion(named, functions) or ';'} "
            "pass a Python callable instead"
        )
    return functions[named]


def _number_from(layout: str) -> Callable[[bytes], Any]:
    return functools.partial(_unpacked, layout)


def _unpacked(layout: str, data: bytes) -> Any:
    return struct.unpack(layout, data)[0]


def _number_to(layout: str) -> Callable[[Any], bytes]:
    return functools.partial(struct.pack, layout)
