"""The clients by name, and opening them."""

from __future__ import annotations

from collections.abc import Mapping

from sage.checks import suggestion
from sage.errors import ConfigError, MissingExtra
from sage.transforms.io.kafka.clients import Consumer, Producer

__all__ = ["CLIENTS", "check_client", "open_consumer", "open_producer"]

CLIENTS = {"kafka-python": "kafka", "confluent-kafka": "confluent"}
"""The clients by name, each with the extra that brings it."""


def check_client(owner: str, client: str) -> None:
    """Refuses a client that is unknown or not installed.

    Raises:
        ConfigError: there is no such client.
        MissingExtra: it is not installed.
    """
    if client not in CLIENTS:
        raise ConfigError(
            f"{owner}: there is no client {client!r}{suggestion(client, CLIENTS) or ';'} choose from "
            f"{', '.join(map(repr, CLIENTS))}"
        )
    try:
        import kafka  # noqa: F401 # both need it

        if client == "confluent-kafka":
            import confluent_kafka  # noqa: F401
    except ImportError:
        raise MissingExtra(f"{owner} with {client}", CLIENTS[client]) from None


def open_consumer(client: str, config: Mapping[str, str], whole: bool = False, timed: bool = True) -> Consumer:
    """A reader with no partitions yet. Its rows are pairs of key and value, ``timed`` or not, or ``whole`` records."""
    if client == "confluent-kafka":
        from sage.transforms.io.kafka.confluent import ConfluentConsumer

        return ConfluentConsumer(config, whole, timed)
    from sage.transforms.io.kafka.kafka_python import PythonConsumer

    return PythonConsumer(config, whole, timed)


def open_producer(client: str, config: Mapping[str, str], transactional_id: str | None = None) -> Producer:
    """A writer; with a transactional id it writes in transactions."""
    if client == "confluent-kafka":
        from sage.transforms.io.kafka.confluent import ConfluentProducer

        return ConfluentProducer(config, transactional_id)
    from sage.transforms.io.kafka.kafka_python import PythonProducer

    return PythonProducer(config, transactional_id)
