"""What writes records: in transactions that belong to checkpoints, or at once."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints.
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage.errors import ConfigError, Fault, SageError
from sage.transactions import BatchSink, Deferred, SinkContext, TransactionalDoFn
from sage.transforms.io.kafka.admin import BrokerAdmin, Fenced
from sage.transforms.io.kafka.checking import checked_pairs, checked_record
from sage.transforms.io.kafka.client_factory import open_producer
from sage.transforms.io.kafka.clients import Producer, WriteFailed
from sage.transforms.io.kafka.records import KafkaHeader, KafkaRecord
from sage.transforms.io.kafka.transactions import (
    Prepared,
    commit,
    ended,
    is_heir,
    is_orphan,
    prepared,
    transactional_id,
    verify_committed,
)

__all__ = ["AtLeastOnce", "ExactlyOnce", "WriteConfig"]

_ROWS_PER_SEND = 100
_PATIENCE_S = 60.0
_COMMIT_S = 5.0  # clients do not always find back to a coordinator that was away; the raw request does


@dataclass(frozen=True)
class WriteConfig:
    """What is written, and how. See `sage.transforms.io.kafka.WriteToKafka` for the meaning of each."""

    config: dict[str, str]
    topic: str
    client: str = "kafka-python"
    key: Callable[[Any], bytes] | None = None
    value: Callable[[Any], bytes] | None = None
    with_headers: bool = False
    prefix: str | None = None

    def timeout_ms(self) -> int:
        """How long (ms) the broker keeps a transaction open."""
        return int(self.config["transaction.timeout.ms"])


class _Rows:
    """Elements on their way to a producer, some at a time."""

    def __init__(self, writing: WriteConfig) -> None:
        self._writing = writing
        self.waiting: list[Any] = []

    def send(self, producer: Producer) -> int:
        """Hands the producer what waits; gives how many that were (count)."""
        rows, self.waiting = self.waiting, []
        writing = self._writing
        if writing.with_headers:
            for row in rows:
                producer.send_record(checked_record(_record(row, writing.topic)))
            return len(rows)
        key, value = writing.key, writing.value
        if key is not None or value is not None:
            rows = [(_bytes(key, k), _bytes(value, v)) for k, v in rows]
        producer.send(writing.topic, checked_pairs(writing.topic, rows))
        return len(rows)


def _bytes(serialize: Callable[[Any], bytes] | None, value: Any) -> Any:
    return value if serialize is None or value is None else serialize(value)


def _record(row: Any, topic: str) -> KafkaRecord:
    """A record from a ``beam.Row`` with the fields that `WriteToKafka` names."""
    headers = tuple(
        KafkaHeader(*header) if isinstance(header, tuple) else KafkaHeader(header.key, header.value)
        for header in getattr(row, "headers", None) or ()
    )
    partition, timestamp = getattr(row, "partition", None), getattr(row, "timestamp", None)
    return KafkaRecord(
        getattr(row, "topic", None) or topic,
        -1 if partition is None else partition,
        -1,
        -1 if timestamp is None else timestamp,
        -1,
        "",
        row.key,
        row.value,
        headers,
    )


class AtLeastOnce(BatchSink):
    """Writes records; those of a bundle are acknowledged when the bundle ends.

    State: a producer, and the records that wait to be handed to it.
    """

    def __init__(self, writing: WriteConfig) -> None:
        self._writing = writing
        self._producer: Any = None
        self._rows: Any = None

    def setup(self) -> None:
        with BrokerAdmin(self._writing.config) as control:
            _check_topic(control, self._writing)

    def start_bundle(self) -> None:
        if self._producer is None:
            self._producer = open_producer(self._writing.client, self._writing.config)
        self._rows = _Rows(self._writing)

    def write_batch(self, elements: list[Any]) -> None:
        self._rows.waiting += elements
        if len(self._rows.waiting) >= _ROWS_PER_SEND:
            self._guarded(lambda: self._rows.send(self._producer))

    def finish_bundle(self) -> None:
        self._guarded(lambda: self._rows.send(self._producer))
        self._guarded(lambda: self._producer.flush(_delivery_s(self._writing)))

    def _guarded(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except WriteFailed as error:
            raise _not_written(self._writing, error) from error

    def teardown(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None


@dataclass
class _Open:
    """A producer that has its transactional id, and which of its transactions this is.

    Attributes:
        name: the transactional id.
        producer: the client's producer.
        identity: producer id and epoch, as the coordinator gave them.
        records: how many were sent in the open transaction (count).
    """

    name: str
    producer: Producer
    identity: tuple[int, int]
    records: int = field(default=0)


class ExactlyOnce(BatchSink, TransactionalDoFn):
    """Writes records in transactions, one for each checkpoint.

    A producer has one transaction at a time, and the next begins before the last is committed: so there are two or
    more, each with a transactional id of its own, taken in turn.

    State: the producers: one that writes, those whose transaction waits for its checkpoint, those that are free; and
    whether what runs of other widths have left open is ended.
    """

    def __init__(self, writing: WriteConfig) -> None:
        self._writing = writing
        self._admin: Any = None
        self._writes: _Open | None = None

    def setup(self) -> None:
        self._rows = _Rows(self._writing)
        self._asking = threading.Lock()  # handles are asked for by another thread
        self._writes = None
        self._waits: dict[str, _Open] = {}
        self._free: list[_Open] = []
        self._made = 0

    def recover(self, context: SinkContext, prepared: Sequence[Prepared]) -> None:
        self._context = context
        self._prefix = self._writing.prefix or f"sage/{context.job}/{context.step}/{self._writing.topic}"
        # A job that goes on from a checkpoint has had this broker: it is waited for.
        self._admin = BrokerAdmin(self._writing.config, _PATIENCE_S, **({"connect_s": _PATIENCE_S} if prepared else {}))
        _check_topic(self._admin, self._writing)
        self._swept = not self._managed
        # Before anything else: whoever takes over an id aborts what is open under it.
        elsewhere = [handle for handle in prepared if handle.records and not ended(self._admin, handle)]
        for name in self._admin.transactional_ids(self._prefix + "/"):
            if is_heir(context, self._prefix, name):
                self._admin.fence(name)
        for handle in elsewhere:
            verify_committed(self._admin, handle)
        if self._managed:
            # Two take turns from the first checkpoint on; making one then would hold the job up.
            self._free = [self._made_ready(), self._made_ready()]

    def write_batch(self, elements: list[Any]) -> None:
        self._rows.waiting += elements
        if len(self._rows.waiting) >= _ROWS_PER_SEND:
            self._send()

    def _send(self) -> None:
        if self._writes is None:
            self._writes = self._free.pop(0) if self._free else self._made_ready()
            self._writes.producer.begin()
            self._writes.records = 0
        try:
            self._writes.records += self._rows.send(self._writes.producer)
        except WriteFailed as error:
            raise _not_written(self._writing, error) from error

    def _made_ready(self) -> _Open:
        context = self._context
        name = transactional_id(self._prefix, context.subtasks, context.subtask, self._made)
        self._made += 1
        producer = open_producer(self._writing.client, self._writing.config, name)
        try:
            producer.init_transactions(_PATIENCE_S)
        except Exception as error:
            producer.close()
            if "InvalidTransactionTimeout" in repr(error) or "INVALID_TRANSACTION_TIMEOUT" in repr(error):
                raise ConfigError(
                    f"WriteToKafka: the broker refuses transaction.timeout.ms={self._writing.timeout_ms()}: its "
                    f"transaction.max.timeout.ms is lower ({error})"
                ) from error
            raise
        found = self._admin.transaction(name)
        return _Open(name, producer, (found.producer, found.epoch))

    def prepare(self, epoch: int) -> Deferred | Prepared | None:
        if self._rows.waiting:
            self._send()
        if self._writes is None:
            # As long as something is to be swept, this subtask is to hear of the checkpoint.
            return None if self._swept else Prepared("", -1, -1, -1, 0, None, self._writing.topic)
        writes, self._writes = self._writes, None
        try:
            # Not beside the next epoch: records of a key that another producer sends would come between these.
            writes.producer.flush(_delivery_s(self._writing))
        except WriteFailed as error:
            raise _not_written(self._writing, error) from error
        self._waits[writes.name] = writes
        return Deferred(functools.partial(self._handle, writes.name, *writes.identity, writes.records))

    def _handle(self, name: str, producer: int, epoch: int, records: int) -> Prepared:
        try:
            with self._asking:
                return prepared(self._admin, name, producer, epoch, records)
        except Fenced as error:
            raise _not_written(self._writing, error) from error

    def commit(self, handle: Prepared) -> Deferred:
        return Deferred(functools.partial(self._finish, handle))

    def _finish(self, handle: Prepared) -> None:
        if handle.records:
            self._commit(handle)
        if not self._swept:
            self._sweep()

    def _sweep(self) -> None:
        """Ends what runs of other widths have left open, or no reader would pass it.

        A checkpoint of this run is durable: all its subtasks have committed what the one before held, and nobody can
        begin from that any more.
        """
        self._swept = True
        with self._asking:
            for name in self._admin.transactional_ids(self._prefix + "/"):
                if is_orphan(self._context, self._prefix, name):
                    self._admin.fence(name)

    def _commit(self, handle: Prepared) -> None:
        writes = self._waits.pop(handle.transactional_id, None)
        if writes is None or not self._committed(writes):
            with self._asking:
                commit(self._admin, handle)

    def _committed(self, writes: _Open) -> bool:
        try:
            writes.producer.commit(_COMMIT_S)
        except Exception:  # whatever this client thinks, the coordinator knows
            writes.producer.close()
            return False
        self._free.append(writes)
        return True

    def teardown(self) -> None:
        """Leaves open what is prepared: it belongs to the checkpoint."""
        for each in [*self._waits.values(), *self._free, *([self._writes] if self._writes else [])]:
            each.producer.close()
        self._waits, self._free, self._writes = {}, [], None
        with self._asking:
            if self._admin is not None:
                self._admin.close()
                self._admin = None


def _check_topic(control: BrokerAdmin, writing: WriteConfig) -> None:
    """Refuses a topic that is not there: a client would try for minutes, and say little."""
    control.partitions((writing.topic,), None)


def _delivery_s(writing: WriteConfig) -> float:
    """How long the client tries to deliver a record, and a little more."""
    return int(writing.config.get("delivery.timeout.ms", 120_000)) / 1000 + 5


def _not_written(writing: WriteConfig, error: Exception) -> SageError:
    hint = ""
    if isinstance(error, Fenced) or "fenced" in str(error).lower():
        hint = " Another run of this job has taken over its transactions; this one must end."
    return NotWritten(f"Kafka at {writing.config['bootstrap.servers']} did not take what was written: {error}.{hint}")


class NotWritten(SageError, ConnectionError):
    """Records could not be written; the message says to which topic and why. A job goes on from its checkpoint."""

    fault = Fault.ENVIRONMENT
    retryable = True
