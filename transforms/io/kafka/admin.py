"""What is asked of the broker beside records: partitions, offsets, groups, and what became of a transaction.

All of it goes through kafka-python, whichever client moves the records. Ending a transaction of a process that is gone
is no call of any client's public API: the request is sent as the protocol has it.

Protocol: EndTxn and InitProducerId of KIP-98, DescribeTransactions and DescribeProducers of KIP-664.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sage.checks import suggestion
from sage.errors import ConfigError
from sage.transforms.io.kafka.clients import Partition
from sage.transforms.io.kafka.config import for_kafka_python
from sage.transforms.io.kafka.log_filters import connecting, quieten

__all__ = ["BrokerAdmin", "Fenced", "Transaction"]

Out = TypeVar("Out")
_LOG = logging.getLogger(__name__)
_EARLIEST, _LATEST = -2, -1
_ASK_AGAIN_S = 0.1
_SOON_S = 0.005
_NEW_TOPIC_S = 2.0
_FENCE_TIMEOUT_MS = 10_000
_SOON_TOLD_MS = 2_000
_INTERNAL = "__"
# What sets a transaction's fate, as the coordinator names it.
ONGOING, COMMITTED, ABORTED = "Ongoing", ("PrepareCommit", "CompleteCommit"), ("PrepareAbort", "CompleteAbort")
_FENCED = (
    "ProducerFencedError", "InvalidProducerEpochError", "InvalidTxnStateError", "InvalidProducerIdMappingError",
)  # fmt: skip


class Fenced(Exception):
    """The transaction is not the producer's any more: another one has the id, or the broker gave it up."""


class Transaction(NamedTuple):
    """What the coordinator says of a transactional id.

    Attributes:
        state: as Kafka names it: ``Empty``, ``Ongoing``, ``CompleteCommit`` ...
        producer: the producer's id.
        epoch: the producer's epoch.
        started_ms: when its latest transaction began (broker's clock, ms since the epoch).
        partitions: where it has written; empty once it has ended.
    """

    state: str
    producer: int
    epoch: int
    started_ms: int
    partitions: tuple[Partition, ...]


class BrokerAdmin:
    """A connection for questions. Each is asked again while the broker does not answer, up to ``patience_s`` (seconds).

    Whoever has never had an answer may have the wrong address: the first connection is given up after ``connect_s``
    (seconds), or after the ``bootstrap.timeout.ms`` of the configuration.

    Raises:
        ConnectionError: no broker answered in time; from every method, and from the constructor.
    """

    def __init__(self, config: Mapping[str, str], patience_s: float = 30.0, connect_s: float = 10.0) -> None:
        import kafka
        from kafka import errors

        self._config = config
        self._servers = config["bootstrap.servers"]
        self._patience = min(patience_s, connect_s)
        self._kafka = kafka
        self._errors = errors
        self._admin: Any = None
        self._leaders: dict[Partition, int] = {}
        quieten()
        self._ask(lambda admin: None)
        self._patience = patience_s

    def __enter__(self) -> BrokerAdmin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def partitions(self, topics: Sequence[str], pattern: str | None) -> list[Partition]:
        """The partitions of these topics, or of all topics whose whole name matches.

        Raises:
            ConfigError: a topic does not exist; one that is being made is waited for.
        """
        deadline = time.monotonic() + _NEW_TOPIC_S
        while True:
            there = {each["name"]: each for each in self._ask(lambda admin: admin.describe_topics())}
            wanted = list(topics)
            if pattern is not None:
                wanted += [name for name in there if re.fullmatch(pattern, name) and not name.startswith(_INTERNAL)]
            missing = [name for name in wanted if name not in there]
            if not missing:
                return sorted(
                    Partition(name, each["partition_index"])
                    for name in dict.fromkeys(wanted)
                    for each in there[name]["partitions"]
                )
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"there is no topic {missing[0]!r} at {self._servers}{suggestion(missing[0], list(there)) or '.'}"
                )
            time.sleep(_ASK_AGAIN_S)

    def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset that each partition still has."""
        return self._offsets(dict.fromkeys(partitions, _EARLIEST), "read_uncommitted")

    def ends(self, partitions: Iterable[Partition], isolation: str) -> dict[Partition, int]:
        """The offset behind the last record that a reader of this isolation level may see now."""
        return self._offsets(dict.fromkeys(partitions, _LATEST), isolation)

    def at_time(self, partitions: Iterable[Partition], millis: int) -> dict[Partition, int]:
        """The offset of the first record at or after a time (ms since the epoch); the end where there is none."""
        found = self._offsets(dict.fromkeys(partitions, millis), "read_uncommitted")
        late = [partition for partition, offset in found.items() if offset < 0]
        return {**found, **self.ends(late, "read_uncommitted")} if late else found

    def _offsets(self, asked: Mapping[Partition, int], isolation: str) -> dict[Partition, int]:
        if not asked:
            return {}
        theirs = {self._kafka.TopicPartition(*partition): spec for partition, spec in asked.items()}
        found = self._ask(lambda admin: admin.list_partition_offsets(theirs, isolation_level=isolation))
        return {Partition(*each): answer.offset for each, answer in found.items()}

    def group_offsets(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """What the group has committed; a partition without such an offset is left out."""
        theirs = [self._kafka.TopicPartition(*partition) for partition in partitions]
        found = self._ask(lambda admin: admin.list_group_offsets({group: theirs}))[group]
        return {Partition(*each): answer.offset for each, answer in found.items() if answer.offset >= 0}

    def commit_group(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Commits offsets to a group that nobody is a member of."""
        meta = self._kafka.OffsetAndMetadata
        theirs = {self._kafka.TopicPartition(*each): meta(offset, "", None) for each, offset in offsets.items()}
        answers = self._ask(lambda admin: admin.alter_group_offsets(group, theirs))
        for error in answers.values():
            if error is not self._errors.NoError:
                raise error(f"offsets of group {group!r} cannot be committed")

    def transaction(self, transactional_id: str) -> Transaction | None:
        """What became of the latest transaction of this id; None if the broker knows no such id."""
        try:
            found = self._ask(lambda admin: admin.describe_transactions([transactional_id]))[transactional_id]
        except self._errors.TransactionalIdNotFoundError:
            return None
        partitions = tuple(sorted(Partition(*each) for each in found.topic_partitions))
        state, started = found.state.value, found.transaction_start_time_ms
        return Transaction(state, found.producer_id, found.producer_epoch, started, partitions)

    def first_offset(self, partition: Partition, producer: int) -> int | None:
        """Where the open transaction of a producer begins in a partition; None if that cannot be known."""
        theirs, remembered = self._kafka.TopicPartition(*partition), partition in self._leaders

        def active(admin: Any) -> Any:
            # Left to itself, the client asks for the leader each time. One that cannot answer is not asked again.
            leader = self._leaders.pop(partition, None)
            leader = self._leader(admin, partition) if leader is None else leader
            found = admin.describe_producers([theirs], broker_id=leader)[theirs].active_producers
            self._leaders[partition] = leader
            return found

        try:
            found = self._ask(active)
        except self._errors.AuthorizationError:
            return None
        starts = [each.current_transaction_start_offset for each in found if each.producer_id == producer]
        if not starts and remembered:  # it may lead no more, and be behind
            del self._leaders[partition]
            return self.first_offset(partition, producer)
        return starts[0] if starts and starts[0] >= 0 else None

    def _leader(self, admin: Any, partition: Partition) -> int:
        """The id of the broker that leads a partition."""
        (topic,) = admin.describe_topics([partition.topic])
        leaders = {each["partition_index"]: int(each["leader_id"]) for each in topic["partitions"]}
        if leaders.get(partition.number, -1) < 0:
            raise self._errors.LeaderNotAvailableError(f"{partition} has none")
        return leaders[partition.number]

    def commit(self, transactional_id: str, producer: int, epoch: int) -> None:
        """Commits the open transaction of a producer, which may be gone. Again for one that is committed is well.

        Raises:
            Fenced: that producer has no open transaction any more.
        """
        from kafka.protocol.producer import EndTxnRequest

        answer = self._of_coordinator(
            transactional_id,
            EndTxnRequest(
                transactional_id=transactional_id,
                producer_id=producer,
                producer_epoch=epoch,
                committed=True,
                max_version=3,  # a later one changes the epoch
            ),
        )
        self._refused(answer, "commit")

    def fence(self, transactional_id: str) -> None:
        """Aborts the open transaction of an id, if there is one, and shuts out whoever holds the id."""
        from kafka.protocol.producer import InitProducerIdRequest

        answer = self._of_coordinator(
            transactional_id,
            InitProducerIdRequest(
                transactional_id=transactional_id,
                transaction_timeout_ms=_FENCE_TIMEOUT_MS,  # whoever takes the id over says its own
                producer_id=-1,
                producer_epoch=-1,
                max_version=4,
            ),
        )
        self._refused(answer, "fence")
        # The abort goes on by itself; a client that finds it under way waits for longer than it takes.
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            found = self.transaction(transactional_id)
            if found is None or not found.state.startswith("Prepare"):
                return
            time.sleep(_SOON_S)

    def _refused(self, answer: Any, verb: str) -> None:
        error = self._errors.for_code(answer.error_code)
        if error is self._errors.NoError:
            return
        if error.__name__ in _FENCED:
            raise Fenced(f"{verb}: {error.__name__}")
        raise error(f"cannot {verb}")

    def _of_coordinator(self, transactional_id: str, request: Any) -> Any:
        from kafka.protocol.metadata import CoordinatorType

        async def send(admin: Any) -> Any:
            nodes = await admin._find_coordinator_ids([transactional_id], key_type=CoordinatorType.TRANSACTION)
            answer = await admin._manager.send(request, node_id=nodes[transactional_id])
            error = self._errors.for_code(answer.error_code)
            if issubclass(error, self._errors.RetriableError):
                raise error(f"transactional id {transactional_id!r}")
            return answer

        return self._ask(lambda admin: admin._manager.run(send, admin))

    def visible(self, partition: Partition, offset: int) -> bool | None:
        """Whether a reader of committed records sees the one at this offset; None if that cannot be known (yet)."""
        theirs = self._kafka.TopicPartition(*partition)
        if self.starts([partition])[partition] > offset:
            return None
        known = self._kafka.KafkaConsumer.DEFAULT_CONFIG
        given = for_kafka_python(self._config, known, lenient=True)
        given.update(isolation_level="read_committed", enable_auto_commit=False, group_id=None, fetch_max_wait_ms=50)
        consumer = self._kafka.KafkaConsumer(**given)
        try:
            consumer.assign([theirs])
            consumer.seek(theirs, offset)
            deadline = time.monotonic() + self._patience
            while time.monotonic() < deadline:
                for record in consumer.poll(timeout_ms=100, max_records=1).get(theirs, ()):
                    return bool(record.offset == offset)
                if consumer.position(theirs) > offset:
                    return False
            return None
        finally:
            consumer.close(autocommit=False)

    def transactional_ids(self, prefix: str) -> list[str]:
        """All ids with this prefix that the brokers know."""
        found = self._ask(lambda admin: admin.list_transactions())
        return sorted({each.transactional_id for some in found.values() for each in some
                       if each.transactional_id.startswith(prefix)})  # fmt: skip

    def _ask(self, question: Callable[[Any], Out]) -> Out:
        """The answer to a question, asked again on a new connection while nobody can give it."""
        deadline = time.monotonic() + self._patience
        while True:
            if self._admin is None:
                self._admin = self._connected()
            try:
                return question(self._admin)
            except self._errors.RetriableError as error:
                if isinstance(error, (self._errors.NotCoordinatorError, self._errors.CoordinatorNotAvailableError)):
                    self.close()  # it remembers who the coordinator was
                if time.monotonic() > deadline:
                    if isinstance(error, self._errors.UnknownTopicOrPartitionError):
                        raise
                    raise ConnectionError(
                        f"no answer from Kafka at {self._servers} (bootstrap.servers) for {self._patience:.0f} s: "
                        f"{error!r}"
                    ) from error
                time.sleep(_ASK_AGAIN_S)

    def _connected(self) -> Any:
        given = {"reconnect_backoff_max_ms": 1_000}
        given.update(for_kafka_python(self._config, self._kafka.KafkaAdminClient.DEFAULT_CONFIG, lenient=True))
        patience = given.pop("bootstrap_timeout_ms", round(self._patience * 1000))
        nobody = f"no Kafka broker answers at {self._servers} (bootstrap.servers)"
        if patience > _SOON_TOLD_MS:
            with connecting(), contextlib.suppress(self._errors.KafkaTimeoutError):
                return self._kafka.KafkaAdminClient(**given, bootstrap_timeout_ms=_SOON_TOLD_MS)
            _LOG.warning("%s so far; it is asked for %.0f s in all", nobody, patience / 1000)
            patience -= _SOON_TOLD_MS
        try:
            with connecting():
                return self._kafka.KafkaAdminClient(**given, bootstrap_timeout_ms=patience)
        except self._errors.KafkaTimeoutError as error:
            raise ConnectionError(
                f"{nobody}: {error}. See that the address is right and can be reached from here; "
                "'bootstrap.timeout.ms' in the config waits longer"
            ) from error
