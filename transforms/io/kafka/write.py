"""Writing to topics, in the call shape of Beam's own connector."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints.
from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam

from sage.errors import ConfigError
from sage.transforms.io.kafka import config as configs
from sage.transforms.io.kafka.client_factory import check_client
from sage.transforms.io.kafka.records import BYTES, serializer
from sage.transforms.io.kafka.sink import AtLeastOnce, ExactlyOnce, WriteConfig

__all__ = ["WriteToKafka"]

_LONGEST_TRANSACTION_MS = 900_000  # what a broker allows by default


class WriteToKafka(beam.PTransform):
    """Writes ``(key, value)`` pairs to a topic; no JVM, no expansion service. Keys and values may be None.

    A pipeline that uses ``apache_beam.io.kafka.WriteToKafka`` ports by changing the import.

    Promise: at least once. Each bundle is acknowledged by the broker (``acks=all``) before it ends, and a bundle that
    is repeated is written again. With ``exactly_once=True`` the records of each checkpoint are one transaction, which
    is committed when the checkpoint is durable: a reader of ``read_committed`` sees each record once, whatever
    crashed, as long as the job is back within ``longest_outage_s``; after that it ends with `DataLoss`, which names
    what was lost. A process that was thought dead and comes back cannot write any more. Without checkpoints the whole
    job is one transaction (a bundle, on runners that know no checkpoints): visible whole at the end, or not at all.

    Transactions need brokers of Kafka 3.0 or later, which tell what became of one (KIP-664), and the right to describe
    transactional ids.

    A key goes to the same partition as from Java, with either client.

    With ``with_headers`` the elements are ``beam.Row`` with ``key`` and ``value`` (bytes), and, where wanted,
    ``headers`` (of ``beam.Row(key, value)`` or pairs; a value may be None), ``topic``, ``partition``, ``timestamp`` (ms
    since the epoch).

    Args:
        producer_config: Kafka's producer settings by their Java names; at least ``bootstrap.servers``.
            ``transactional.id`` is the beginning of the ids that are used; by default the names of job, step and
            topic. Two jobs that run at the same time must differ in it: give them a ``--job_name`` each, unless
            their scripts, after which jobs are called by default, have different names.
        topic: the topic; it has to exist.
        key_serializer: a callable to bytes, or the Java name of a common one; default: bytes as they are.
        value_serializer: the same for values.
        with_headers: see above.
        expansion_service: taken for compatibility; none is used.
        exactly_once: see Promise.
        longest_outage_s: how long (seconds) the job may be down and still commit what a checkpoint holds.
        client: ``kafka-python``, or ``confluent-kafka``, which is several times faster and comes with an extra.

    Raises:
        ConfigError: a setting is wrong, or would lose records (``acks=0``, a ``transaction.timeout.ms`` that is
            shorter than ``longest_outage_s``), or is not known to the client.
        TypeError: when run, if a record is not of bytes; the message names it and the serializer to give.
        ConnectionError: when run, if no broker answers within 10 s, or the ``bootstrap.timeout.ms`` of the config (ms).
        MissingExtra: the client is not installed, or the library of ``compression.type`` is not.
    """

    byte_array_serializer = f"{BYTES}Serializer"

    def __init__(
        self,
        producer_config: Mapping[str, Any],
        topic: str,
        key_serializer: str | Callable[[Any], bytes] = byte_array_serializer,
        value_serializer: str | Callable[[Any], bytes] = byte_array_serializer,
        with_headers: bool = False,
        expansion_service: Any = None,
        *,
        exactly_once: bool = False,
        longest_outage_s: float = 600,
        client: str = "kafka-python",
    ) -> None:
        super().__init__()
        if not isinstance(topic, str) or not topic:
            raise ConfigError(f"WriteToKafka: topic must be the name of one, not {topic!r}")
        plain = (self.byte_array_serializer, self.byte_array_serializer)
        if with_headers and (key_serializer, value_serializer) != plain:
            raise ConfigError("WriteToKafka: with_headers=True takes keys and values as bytes, without serializers")
        config = configs.as_text("WriteToKafka", producer_config)
        configs.check_producer(config, exactly_once)
        if exactly_once:
            config = _with_timeout(config, longest_outage_s)
        check_client("WriteToKafka", client)
        configs.check_settings("WriteToKafka", client, config, producer=True)
        self.exactly_once = exactly_once
        self.writing = WriteConfig(
            config=config,
            topic=topic,
            client=client,
            key=serializer(key_serializer),
            value=serializer(value_serializer),
            with_headers=with_headers,
            prefix=config.get("transactional.id"),
        )

    def expand(self, rows: Any) -> Any:
        writer = ExactlyOnce(self.writing) if self.exactly_once else AtLeastOnce(self.writing)
        return rows | "Write" >> beam.ParDo(writer)


def _with_timeout(config: dict[str, str], outage_s: float) -> dict[str, str]:
    needed = round(outage_s * 1000)
    given = config.setdefault("transaction.timeout.ms", str(max(needed, _LONGEST_TRANSACTION_MS)))
    if not given.isdigit() or int(given) < needed:
        raise ConfigError(
            f"WriteToKafka: transaction.timeout.ms={given} is shorter than longest_outage_s={outage_s:g}: the broker "
            "would abort what a checkpoint holds before the job is back. Raise the one or lower the other."
        )
    return config
