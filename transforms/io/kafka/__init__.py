"""Apache Kafka with no JVM on this side: `ReadFromKafka` and `WriteToKafka`, in the call shape of Beam's own.

    from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka

They need an extra: ``sage-stream[kafka]`` for kafka-python, or ``sage-stream[confluent]`` for confluent-kafka as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage.transforms.io.kafka.read import ReadFromKafka as ReadFromKafka
    from sage.transforms.io.kafka.records import KafkaHeader as KafkaHeader
    from sage.transforms.io.kafka.records import KafkaRecord as KafkaRecord
    from sage.transforms.io.kafka.write import WriteToKafka as WriteToKafka

_HOME = {"KafkaHeader": "records", "KafkaRecord": "records", "ReadFromKafka": "read", "WriteToKafka": "write"}

__all__ = ["KafkaHeader", "KafkaRecord", "ReadFromKafka", "WriteToKafka"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
