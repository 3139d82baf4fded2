"""What a prepared transaction is, and how it is committed by whoever holds the checkpoint.

A transaction of Kafka stays open, and can be committed, when the process that wrote it is gone: the coordinator asks
only for the transactional id, the producer's id and its epoch. So these three, and what tells this transaction from
the next one of the same producer, are what a checkpoint keeps.
"""

from __future__ import annotations

from typing import NamedTuple

from sage.errors import DataLoss
from sage.transactions import SinkContext
from sage.transforms.io.kafka.admin import ABORTED, COMMITTED, ONGOING, BrokerAdmin, Fenced
from sage.transforms.io.kafka.clients import Partition

__all__ = ["Prepared", "commit", "ended", "is_heir", "is_orphan", "prepared", "transactional_id", "verify_committed"]


class Prepared(NamedTuple):
    """A transaction that is flushed and not committed.

    Attributes:
        transactional_id: of the producer.
        producer: the producer's id, as the coordinator gave it.
        epoch: the producer's epoch.
        started_ms: when the transaction began, by the coordinator's clock: the next one of this producer has another.
        records: how many it holds (count); 0 if there is no transaction, and only the checkpoint is waited for.
        witness: where its first record lies in one of its partitions. A transaction is visible whole or not at all,
            so a reader that sees this record tells what became of it. None if the broker does not say.
        topic: a topic it has written to.
    """

    transactional_id: str
    producer: int
    epoch: int
    started_ms: int
    records: int
    witness: tuple[str, int, int] | None
    topic: str


def transactional_id(prefix: str, subtasks: int, subtask: int, number: int) -> str:
    """The name of one producer. The number of subtasks is part of it: runs of different width never share a name."""
    return f"{prefix}/{subtasks}/{subtask}/{number}"


def is_heir(context: SinkContext, prefix: str, name: str) -> bool:
    """Whether it is this subtask's to end what may be open under a transactional id.

    That is its own producers', and those of the subtasks it answers for in a run of another width. Those of other
    subtasks of this width may be at work already.
    """
    width, subtask = _place(prefix, name)
    return subtask == context.subtask if width == context.subtasks else subtask in context.earlier


def is_orphan(context: SinkContext, prefix: str, name: str) -> bool:
    """Whether a transactional id is of another width, and this subtask's to end when no checkpoint names it any more.

    There may be many such widths: of runs that ended before a checkpoint of theirs was durable.
    """
    width, subtask = _place(prefix, name)
    return width not in (0, context.subtasks) and subtask % context.subtasks == context.subtask


def _place(prefix: str, name: str) -> tuple[int, int]:
    """The number of subtasks, and the subtask, that are in a transactional id; no number for one of somebody else."""
    parts = name[len(prefix) + 1 :].split("/")
    if not name.startswith(prefix + "/") or len(parts) != 3 or not all(part.isdigit() for part in parts):
        return 0, -1
    return int(parts[0]), int(parts[1])


def prepared(control: BrokerAdmin, name: str, producer: int, epoch: int, records: int) -> Prepared:
    """The handle of a producer's open transaction, all of which is flushed.

    Raises:
        Fenced: the transaction is not open, or another producer has the id.
    """
    found = control.transaction(name)
    if found is None or found.state != ONGOING or (found.producer, found.epoch) != (producer, epoch):
        raise Fenced(f"transaction {name!r} of producer {producer}, epoch {epoch} is not open: {found}")
    first = found.partitions[0]
    offset = control.first_offset(first, producer)
    witness = None if offset is None else (first.topic, first.number, offset)
    return Prepared(name, producer, epoch, found.started_ms, records, witness, first.topic)


def commit(control: BrokerAdmin, handle: Prepared) -> None:
    """Makes a prepared transaction visible, if it is not yet. Must come before anyone takes over its id.

    Raises:
        DataLoss: it was aborted, by the broker's timeout or by another run that took the id.
    """
    if not ended(control, handle):
        verify_committed(control, handle)


def ended(control: BrokerAdmin, handle: Prepared) -> bool:
    """Commits a prepared transaction if it is still the latest of its id; whether it was, or else `verify_committed`.

    Raises:
        DataLoss: it was aborted.
    """
    found = control.transaction(handle.transactional_id)
    if found is not None and (found.producer, found.epoch, found.started_ms) == (
        handle.producer,
        handle.epoch,
        handle.started_ms,
    ):
        if found.state in COMMITTED:
            return True
        if found.state in ABORTED:
            raise _loss(handle, "it was aborted")
        if found.state == ONGOING:
            try:
                control.commit(handle.transactional_id, handle.producer, handle.epoch)
            except Fenced:  # between the question and the request
                pass
            else:
                return True
    return False


def verify_committed(control: BrokerAdmin, handle: Prepared) -> None:
    """Sees that a transaction was committed whose id has moved on: to a later one, or to another producer.

    A reader tells, and no reader passes records of transactions that are open: first, all must have ended that the
    caller is to end.

    Raises:
        DataLoss: it was aborted, or nothing tells that it was not.
    """
    if handle.witness is None:
        raise _loss(handle, "its id has gone to another producer, and the broker does not say if it was committed")
    topic, number, offset = handle.witness
    seen = control.visible(Partition(topic, number), offset)
    if seen is None:
        raise _loss(handle, f"offset {offset} of {topic}-{number}, which would tell if it was, is not there")
    if not seen:
        raise _loss(handle, "the broker has aborted it: its time was out, or another run has taken its id")


def _loss(handle: Prepared, why: str) -> DataLoss:
    return DataLoss(
        f"Kafka transaction {handle.transactional_id!r} cannot be committed: {why}. {handle.records} records, to topic "
        f"{handle.topic!r} among others, are lost. To make them again, start from an earlier checkpoint or savepoint; "
        "to keep it from happening, raise transaction.timeout.ms (and the broker's transaction.max.timeout.ms) above "
        "the longest time that the job may be down."
    )
