"""The conductor does what the coordinator decides, and answers whoever asked."""

from __future__ import annotations

from typing import Any

import pytest

from sage.errors import CheckpointError
from sage.runners.driver.checkpoint_driver import CheckpointDriver, request_of
from sage.runners.engine.checkpoint.protocol import (
    Acknowledged,
    Ask,
    Complete,
    Coordinator,
    Drain,
    Ended,
    Publish,
    Receipt,
    Requested,
    Start,
    WorkerLost,
)

RECEIPT = Receipt("part", 10, 0, True)


class Job:
    """A conductor of one worker, whose clock is moved by hand."""

    def __init__(
        self,
        publish: Any = lambda decision: (f"chk-{decision.epoch}", 70),
        interval: int | None = 100,
        prompt: bool = False,
    ) -> None:
        self.now = 0
        self.commands: list[Any] = []
        self.conductor = CheckpointDriver(
            Coordinator(1, interval), publish, self.commands.append, lambda: self.now, prompt=prompt
        )

    def until(self, kind: type) -> Any:
        """Attends until a command of a kind comes."""
        for _ in range(100):
            self.conductor.run_pending(0.1)
            found = [command for command in self.commands if isinstance(command, kind)]
            if found:
                return found[-1]
        raise AssertionError(f"no {kind.__name__}: {self.commands}")


def test_a_checkpoint_begins_when_it_is_due_and_is_durable_when_its_manifest_is() -> None:
    job = Job()
    job.conductor.run_pending()
    assert job.commands == []
    job.now = 100
    job.conductor.run_pending()
    start = job.until(Start)
    assert job.conductor.last is None
    job.now = 130
    job.conductor.post(Acknowledged(0, start.epoch, RECEIPT))
    assert job.until(Complete).epoch == start.epoch
    taken = job.conductor.last
    assert taken is not None
    assert (taken.path, taken.size, taken.state, taken.began, taken.ended) == ("chk-1", 10, 70, 100, 130)


def test_whoever_asks_for_a_savepoint_is_told_where_it_is() -> None:
    published: list[Publish] = []

    def publish(decision: Publish) -> tuple[str, int]:
        published.append(decision)
        return "there", 0

    job = Job(publish)
    answer = job.conductor.ask(Requested(Ask.SAVEPOINT, "mine"))
    start = job.until(Start)
    job.conductor.post(Acknowledged(0, start.epoch, RECEIPT))
    job.until(Complete)
    assert answer.result(0).path == "there"
    assert published[0].name == "mine"


def test_two_who_ask_for_the_same_are_both_answered() -> None:
    job = Job()
    first, second = (job.conductor.ask(Requested(Ask.DRAIN)) for _ in range(2))
    job.until(Drain)
    assert first.result(0) is None
    with pytest.raises(CheckpointError, match="draining already"):
        second.result(0)


def test_a_manifest_that_cannot_be_written_is_told_to_whoever_asked_for_it() -> None:
    def publish(decision: Publish) -> tuple[str, int]:
        raise OSError("no room")

    job = Job(publish)
    answer = job.conductor.ask(Requested(Ask.SAVEPOINT, "mine"))
    start = job.until(Start)
    job.conductor.post(Acknowledged(0, start.epoch, RECEIPT))
    for _ in range(100):
        job.conductor.run_pending(0.1)
        if answer.done():
            break
    with pytest.raises(CheckpointError, match="no room"):
        answer.result(0)


def test_a_worker_that_is_lost_fails_the_job() -> None:
    job = Job()
    job.conductor.post(WorkerLost(0))
    with pytest.raises(CheckpointError, match="worker 0 is lost"):
        job.conductor.run_pending()


def test_nobody_waits_for_a_job_that_is_over() -> None:
    job = Job()
    before = job.conductor.ask(Requested(Ask.SAVEPOINT, "mine"))
    job.conductor.close("the job has ended")
    after = job.conductor.ask(Requested(Ask.STOP))
    for answer in (before, after, request_of(None, Requested(Ask.STOP))):
        with pytest.raises(CheckpointError, match=r"ended|not run yet"):
            answer.result(0)


def test_a_job_that_keeps_nothing_has_one_checkpoint_at_its_end() -> None:
    job = Job(publish=None, interval=None)
    job.now = 10_000
    job.conductor.run_pending()
    assert job.commands == []
    job.conductor.post(Ended(0))
    start = job.until(Start)
    job.conductor.post(Acknowledged(0, start.epoch, RECEIPT))
    assert job.until(Complete).final


def test_a_prompt_conductor_does_not_wait_until_it_is_attended() -> None:
    job = Job(publish=None, prompt=True)
    answer = job.conductor.ask(Requested(Ask.SAVEPOINT, "mine"))
    (start,) = job.commands
    job.conductor.post(Acknowledged(0, start.epoch, RECEIPT))
    assert isinstance(job.commands[-1], Complete)
    assert answer.done()


def test_who_is_answered_by_a_prompt_conductor_may_ask_for_more_at_once() -> None:
    job = Job(publish=None, prompt=True)
    first = job.conductor.ask(Requested(Ask.SAVEPOINT, "one"))
    first.add_done_callback(lambda _: job.conductor.ask(Requested(Ask.SAVEPOINT, "two")))
    (start,) = job.commands
    job.conductor.post(Acknowledged(0, start.epoch, RECEIPT))
    assert [type(command) for command in job.commands] == [Start, Complete, Start]


def test_a_prompt_conductor_gives_up_where_it_is_attended() -> None:
    job = Job(prompt=True)
    job.conductor.post(WorkerLost(0))
    with pytest.raises(CheckpointError):
        job.conductor.run_pending()
