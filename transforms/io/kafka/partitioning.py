"""Which partition a key goes to, looked up instead of worked out: kafka-python hashes in Python, byte by byte."""

from __future__ import annotations

from typing import Any

__all__ = ["remembering"]

MOST_KEYS = 1 << 16


def remembering() -> Any:
    """A partitioner that gives what kafka-python's own gives (Java's murmur2), for a key that was seen before, too.

    State: the partitions of the last keys, at most `MOST_KEYS` (count), by topic and number of its partitions.
    """
    from kafka.partitioner import DefaultPartitioner

    class Remembering(DefaultPartitioner):
        def __init__(self) -> None:
            self._known: dict[tuple[str, int, bytes], int] = {}

        def partition(
            self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: Any, cluster: Any
        ) -> int:
            if serialized_key is None:
                return int(super().partition(topic, key, None, value, serialized_value, cluster))
            place = topic, len(cluster.partitions_for_topic(topic) or ()), serialized_key
            found = self._known.get(place)
            if found is None:
                if len(self._known) >= MOST_KEYS:
                    self._known.clear()
                found = int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
                self._known[place] = found
            return found

    return Remembering()
