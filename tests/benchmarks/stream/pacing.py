"""Records at a steady pace, for a twentieth of a core: what measures shares the machine with what it measures.

A client's producer takes half a core for what is sent here, as much as the broker. So batches of records are made once,
and each time they are sent only the time in them is another. They go as requests of the protocol (Produce, with record
batches of KIP-98), each when the one before is answered.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Sequence

from tests.benchmarks.stream.counting import HEAD, KEYS, PARTITIONS, key_of, value_of

__all__ = ["feed"]

LONGEST_PORTION_S = 0.007
_VERSION = 7
_CRC_AT, _COVERED_AT, _FIRST_AND_LAST_AT = 17, 21, 27
"""Where in a batch its checksum is, what that covers begins, and the times of its first and last record are (bytes)."""


class _Batch:
    """Records of one partition, to be sent again and again.

    Args:
        keys: of the records.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        from kafka.record.default_records import DefaultRecordBatchBuilder

        value = value_of(10**HEAD - 1)
        self._time = value[:HEAD]
        builder = DefaultRecordBatchBuilder(
            magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
            batch_size=1 << 30,
        )  # fmt: skip
        for at, key in enumerate(keys):
            builder.append(at, 0, key, value, [])
        self._bytes = bytes(builder.build())

    def of(self, instant_ns: int) -> bytes:
        """The batch with records of an instant (ns since the epoch)."""
        from crc32c import crc32c

        batch = bytearray(self._bytes.replace(self._time, value_of(instant_ns)[:HEAD]))
        struct.pack_into(">qq", batch, _FIRST_AND_LAST_AT, *[instant_ns // 1_000_000] * 2)
        struct.pack_into(">I", batch, _CRC_AT, crc32c(memoryview(batch)[_COVERED_AT:]))
        return bytes(batch)


class _Topic:
    """A topic that batches are sent to.

    Args:
        connection: to the broker.
        name: of the topic.
    """

    def __init__(self, connection: socket.socket, name: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._answers = connection.makefile("rb")
        self._name = name

    def send(self, batches: Sequence[bytes]) -> None:
        """Returns when the broker has taken a batch for each partition.

        Raises:
            OSError: it has not.
        """
        from kafka.protocol.producer import ProduceRequest, ProduceResponse

        topic = ProduceRequest.TopicProduceData
        data = [topic.PartitionProduceData(index=at, records=batch) for at, batch in enumerate(batches)]
        request = ProduceRequest(
            version=_VERSION, transactional_id=None, acks=1, timeout_ms=30_000,
            topic_data=[topic(name=self._name, partition_data=data)],
        )  # fmt: skip
        request.with_header(correlation_id=0, client_id="pacing")
        self._connection.sendall(request.encode(header=True, framed=True))
        (size,) = struct.unpack(">i", self._answers.read(4))
        answer = ProduceResponse.decode(self._answers.read(size), version=_VERSION, header=True)
        failed = [part for each in answer.responses for part in each.partition_responses if part.error_code]
        if failed:
            raise OSError(f"the broker did not take what was sent: {failed}")


def _portions(rate: float) -> list[list[_Batch]]:
    """What is sent in turn, each a batch for every partition: all keys once, before any comes again."""
    keys = KEYS // PARTITIONS
    sizes = [size for size in range(1, keys + 1) if keys % size == 0]
    size = max(size for size in sizes if size == 1 or size * PARTITIONS / rate <= LONGEST_PORTION_S)
    return [
        [_Batch([key_of(place * keys + at) for at in range(begin, begin + size)]) for place in range(PARTITIONS)]
        for begin in range(0, keys, size)
    ]


def feed(address: str, topic: str, rate: float, seconds: float) -> None:
    """Sends so many records a second, whose values begin with the time at which they were due (ns since the epoch).

    It is that time although a record may leave later, because the machine or the broker was busy: its latency counts
    from when it should have left.
    """
    portions = _portions(rate)
    every_ns = KEYS / len(portions) / rate * 1e9
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        target = _Topic(connection, topic)
        began = time.time_ns()
        for number, portion in enumerate(itertools.cycle(portions)):
            due = began + int(number * every_ns)
            if due >= began + seconds * 1e9:
                return
            time.sleep(max(0, due - time.time_ns()) / 1e9)
            target.send([batch.of(due) for batch in portion])
