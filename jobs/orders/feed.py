"""``python -m sage.jobs.orders.feed --kafka host:port --events N``: fills the topics that the job reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sage.errors import MissingExtra
from sage.jobs.orders.events import Shop, order, payments
from sage.jobs.orders.model import encode

__all__ = ["feed", "main"]

PARTITIONS = 4
# The shop's clock is not ours: a broker that goes by the times of records would find them old, and remove them.
_KEEP = {"retention.ms": "-1"}


def feed(servers: str, shop: Shop, prefix: str = "") -> int:
    """Makes the four topics where they are missing, and sends the orders and payments of a shop; gives their number.

    Args:
        servers: Kafka's bootstrap servers, ``host:port``.
        shop: which orders; ``events`` must be set.
        prefix: what the names of the topics begin with.

    Raises:
        MissingExtra: kafka-python is not installed.
    """
    try:
        from kafka import KafkaProducer
        from kafka.admin import KafkaAdminClient, NewTopic
        from kafka.errors import TopicAlreadyExistsError
    except ImportError as error:
        raise MissingExtra("feeding Kafka", "kafka") from error

    admin = KafkaAdminClient(bootstrap_servers=servers)
    for topic in ("orders", "payments", "settlements", "alerts"):
        try:
            admin.create_topics([NewTopic(prefix + topic, PARTITIONS, 1, topic_configs=_KEEP)])
        except TopicAlreadyExistsError:
            pass
    admin.close()
    producer: Any = KafkaProducer(bootstrap_servers=servers, linger_ms=20)
    rows: list[tuple[int, str, Any]] = []
    for number in range(shop.events or 0):
        found = order(shop, number)
        rows.append((found.at_ms, "orders", found))
        rows += [(row.at_ms, "payments", row) for row in payments(shop, number)]
    # As they would come: a payment is sent when it is made, not with its order.
    for at_ms, topic, row in sorted(rows):
        producer.send(prefix + topic, encode(row), row.customer.encode(), timestamp_ms=at_ms)
    producer.flush()
    producer.close()
    return len(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Send the generated stream to Kafka."""
    parser = argparse.ArgumentParser(prog="python -m sage.jobs.orders.feed", description=__doc__)
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT")
    parser.add_argument("--events", type=int, default=100_000, metavar="N", help="so many orders (%(default)s)")
    parser.add_argument("--topic-prefix", default="", metavar="TEXT", help="what the names of the topics begin with")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which stream (%(default)s)")
    known = parser.parse_args(argv)
    sent = feed(known.kafka, Shop(known.seed, events=known.events), known.topic_prefix)
    print(f"sent {sent} messages")


if __name__ == "__main__":
    main()
