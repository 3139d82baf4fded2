"""A remembered partition is the one that kafka-python gives, also when a topic has grown."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("kafka", reason="kafka-python comes with the extra [kafka]")

from kafka.cluster import ClusterMetadata
from kafka.partitioner import DefaultPartitioner
from kafka.protocol.metadata.metadata import MetadataResponse

from sage.transforms.io.kafka import partitioning

Topic = MetadataResponse.MetadataResponseTopic
VERSION = 7  # of the protocol's message


def _cluster(**topics: int) -> Any:
    """What a client knows of topics with so many partitions."""
    known = ClusterMetadata()
    broker = MetadataResponse.MetadataResponseBroker(version=VERSION, node_id=1, host="localhost", port=9092)
    told = [
        Topic(
            error_code=0,
            name=name,
            partitions=[
                Topic.MetadataResponsePartition(error_code=0, partition_index=number, leader_id=1)
                for number in range(count)
            ],
        )
        for name, count in topics.items()
    ]
    known.update_metadata(MetadataResponse(version=VERSION, brokers=[broker], topics=told))
    return known


def _places(partitioner: Any, topic: str, keys: list[bytes], cluster: Any) -> list[int]:
    return [partitioner.partition(topic, key, key, b"", b"", cluster) for key in keys]


def test_keys_go_where_the_clients_own_partitioner_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioning, "MOST_KEYS", 50)
    keys = [b"%d" % number for number in range(100)] * 2
    ours = partitioning.remembering()
    for cluster in (_cluster(small=3, large=16), _cluster(small=5, large=16)):
        for topic in ("small", "large", "small"):
            assert _places(ours, topic, keys, cluster) == _places(DefaultPartitioner(), topic, keys, cluster)


def test_records_without_a_key_are_spread() -> None:
    ours, cluster = partitioning.remembering(), _cluster(topic=3)
    found = {ours.partition("topic", None, None, b"", b"", cluster) for _ in range(200)}
    assert found == {0, 1, 2}
