"""What was prepared outlives its process: it is committed once by the next one, or its loss is named."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sage.errors import DataLoss
from sage.transactions import Deferred, SinkContext
from sage.transforms.io.kafka import WriteToKafka
from sage.transforms.io.kafka.client_factory import CLIENTS
from sage.transforms.io.kafka.sink import ExactlyOnce, NotWritten
from tests.kafka.cluster import Cluster
from tests.patience import patience

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

# Writes and prepares epoch 1, commits nothing, writes some of epoch 2, says so, and waits to be killed.
PREPARES = """
import pickle, sys, time
from sage.transactions import SinkContext
from tests.recovery.test_kafka_transactions import handle_of, sink
address, topic, client, job, handle_file = sys.argv[1:]
writer = sink(address, topic, client, SinkContext(job, "Write"))
for n in range(1000):
    writer.process((b"k", b"%d" % n))
handle = handle_of(writer, 1)
with open(handle_file, "wb") as file:
    pickle.dump(handle, file)
for n in range(1000, 2000):
    writer.process((b"k", b"%d" % n))
writer._writes.producer.flush(30)
print("prepared", flush=True)
time.sleep(600)
"""


def sink(address: str, topic: str, client: str, context: SinkContext, prepared: Any = (), **config: str) -> ExactlyOnce:
    """A transactional sink as a runner drives it, recovered."""
    transform = WriteToKafka(
        {"bootstrap.servers": address, **config}, topic, exactly_once=True, longest_outage_s=1, client=client
    )
    writer = ExactlyOnce(transform.writing)
    writer.manage()
    writer.setup()
    try:
        writer.recover(context, prepared)
    except BaseException:
        writer.teardown()
        raise
    return writer


def handle_of(writer: ExactlyOnce, epoch: int) -> Any:
    """What a checkpoint would hold of a sink."""
    return Deferred.resolve(writer.prepare(epoch))


def commit(writer: ExactlyOnce, handle: Any) -> None:
    """As a runner does when the checkpoint is durable."""
    Deferred.resolve(writer.commit(handle))


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


def killed(kafka: Cluster, topic: str, client: str, job: str, tmp_path: Path) -> Any:
    """The handle of a process that prepared epoch 1, went on to epoch 2, and was killed."""
    file = tmp_path / "handle"
    command = [sys.executable, "-c", PREPARES, kafka.address, topic, client, job, str(file)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"prepared\n"
        process.send_signal(signal.SIGKILL)
    return pickle.loads(file.read_bytes())


def test_what_a_killed_process_prepared_is_seen_once(kafka: Cluster, client: str, tmp_path: Path) -> None:
    topic = kafka.topic(2)
    context = SinkContext(topic, "Write")
    handle = killed(kafka, topic, client, topic, tmp_path)
    assert kafka.values(topic) == []

    writer = sink(kafka.address, topic, client, context, [handle])
    expected = sorted(b"%d" % n for n in range(1000))
    assert sorted(kafka.values(topic)) == expected

    # The run goes on, and dies before its next checkpoint is durable: the one after it gets the same handle.
    writer.process((b"k", b"again"))
    handle_of(writer, 2)
    writer.teardown()
    once_more = sink(kafka.address, topic, client, context, [handle])
    once_more.process((b"k", b"more"))
    commit(once_more, handle_of(once_more, 2))
    once_more.teardown()
    assert sorted(kafka.values(topic)) == sorted([*expected, b"more"])


def test_the_epochs_of_one_run_follow_each_other(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    writer = sink(kafka.address, topic, client, SinkContext(topic, "Write"))
    handles = []
    for epoch in range(1, 7):
        writer.process((None, b"%d" % epoch))
        handles.append(handle_of(writer, epoch))
        if epoch > 2:  # two are open beside the one that is written
            commit(writer, handles.pop(0))
        if epoch == 4:
            assert handle_of(writer, 4) is None  # nothing was written
    assert kafka.values(topic) == [b"1", b"2", b"3", b"4"]
    for handle in handles:
        commit(writer, handle)
        commit(writer, handle)
    assert kafka.values(topic) == [b"%d" % epoch for epoch in range(1, 7)]
    assert len(kafka.admin.list_transactions()[1]) >= 3
    writer.teardown()


def test_closing_leaves_what_is_prepared(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    context = SinkContext(topic, "Write")
    writer = sink(kafka.address, topic, client, context)
    writer.process((None, b"kept"))
    handle = handle_of(writer, 1)
    writer.process((None, b"dropped"))
    writer.teardown()
    sink(kafka.address, topic, client, context, [handle]).teardown()
    assert kafka.values(topic) == [b"kept"]


def test_readers_pass_what_a_run_of_another_width_left_open_without_a_checkpoint(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    for n in range(3):
        left = sink(kafka.address, topic, client, SinkContext(topic, "Write", n, 3, (n,)))
        left.process((None, b"left"))
        handle_of(left, 1)
        left.teardown()
    writers = [sink(kafka.address, topic, client, SinkContext(topic, "Write", n, 2, (n,))) for n in range(2)]
    writers[0].process((None, b"new"))
    for writer in writers:  # one has written nothing, and has to hear of the checkpoint all the same
        commit(writer, handle_of(writer, 2))
        assert handle_of(writer, 3) is None
    assert kafka.values(topic) == [b"new"]
    for writer in writers:
        writer.teardown()


def test_what_is_committed_is_known_to_be_although_earlier_records_are_open(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    ahead, behind = (sink(kafka.address, topic, client, SinkContext(topic, "Write", n, 2, (n,))) for n in range(2))
    # Readers pass none of these records until their transactions end, which is for the one that comes to do.
    behind.process((None, b"behind 1"))
    prepared = handle_of(behind, 1)
    behind.process((None, b"behind 2"))
    handle_of(behind, 2)
    ahead.process((None, b"ahead 1"))
    committed = handle_of(ahead, 1)
    commit(ahead, committed)
    for epoch in (2, 3):  # and the id of the first has gone on to the third
        ahead.process((None, b"ahead %d" % epoch))
        handle_of(ahead, epoch)
    ahead.teardown()
    behind.teardown()
    sink(kafka.address, topic, client, SinkContext(topic, "Write", 0, 1, (0, 1)), [committed, prepared]).teardown()
    assert sorted(kafka.values(topic)) == [b"ahead 1", b"behind 1"]


def test_a_zombie_can_neither_write_nor_commit(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    context = SinkContext(topic, "Write")
    zombie = sink(kafka.address, topic, client, context)
    zombie.process((None, b"before"))
    unknown = handle_of(zombie, 1)  # no checkpoint holds it
    zombie.process((None, b"begun"))
    zombie._send()
    zombie._writes.producer.flush(30)
    sink(kafka.address, topic, client, context).teardown()
    zombie.process((None, b"after"))
    with pytest.raises(NotWritten):
        handle_of(zombie, 2)
    with pytest.raises(DataLoss, match="1 records"):
        commit(zombie, unknown)
    zombie.teardown()
    assert kafka.values(topic) == []


def test_what_the_broker_gave_up_is_data_loss(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    context = SinkContext(topic, "Write")
    writer = sink(kafka.address, topic, client, context, **{"transaction.timeout.ms": "1000"})
    writer.process((None, b"lost"))
    handle = handle_of(writer, 1)
    writer.teardown()
    deadline = time.monotonic() + patience(60)
    while "Ongoing" in str(kafka.admin.describe_transactions([handle.transactional_id])):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(DataLoss, match=f"1 records, to topic '{topic}'.*earlier checkpoint"):
        sink(kafka.address, topic, client, context, [handle])


def test_after_a_change_of_width_the_heir_commits_and_aborts(kafka: Cluster, client: str) -> None:
    topic = kafka.topic()
    old = [sink(kafka.address, topic, client, SinkContext(topic, "Write", n, 3, (n,))) for n in range(3)]
    handles = []
    for n, writer in enumerate(old):
        writer.process((None, b"prepared %d" % n))
        handles.append(handle_of(writer, 1))
        writer.process((None, b"open %d" % n))
        writer._send()
        writer._writes.producer.flush(30)
        writer.teardown()
    # In the worst order: one that begins anew before the heir of the same number has committed.
    second = sink(kafka.address, topic, client, SinkContext(topic, "Write", 1, 2, (2,)), handles[2:])
    second.process((None, b"new"))
    first = sink(kafka.address, topic, client, SinkContext(topic, "Write", 0, 2, (0, 1)), handles[:2])
    commit(second, handle_of(second, 2))
    assert sorted(kafka.values(topic)) == [b"new", *(b"prepared %d" % n for n in range(3))]
    first.teardown()
    second.teardown()
