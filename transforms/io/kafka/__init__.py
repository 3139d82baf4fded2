"""Apache Kafka with no JVM on this side: `ReadFromKafka` and `WriteToKafka`, in the call shape of Beam's own.

    from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka

They need an extra: ``sage-stream[kafka]`` for kafka-python, or ``sage-stream[confluent]`` for confluent-kafka as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sage.importing import on_first_use

if TYPE_CHECKING:
    from sage.transforms.io.kafka.read import ReadFromKafka as ReadFromKafka
    from sage.transforms.io.kafka.records import KafkaHeader as KafkaHeader
    from sage.transforms.io.kafka.records import KafkaRecord as KafkaRecord
    from sage.transforms.io.kafka.write import WriteToKafka as WriteToKafka

_HOME = {"KafkaHeader": "records", "KafkaRecord": "records", "ReadFromKafka": "read", "WriteToKafka": "write"}

__all__ = ["KafkaHeader", "KafkaRecord", "ReadFromKafka", "WriteToKafka"]

__getattr__ = on_first_use(__name__, _HOME)
