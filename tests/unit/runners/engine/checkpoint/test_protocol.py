"""The coordinator of checkpoints: one case for each rule, and any order of facts against its invariants."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sage.runners.engine.checkpoint.protocol import (
    CHAIN,
    TOLERATED,
    Abort,
    Acknowledged,
    Ask,
    Complete,
    Coordinator,
    Decision,
    Declined,
    Drain,
    Ended,
    Fact,
    Fail,
    Kind,
    Phase,
    Publish,
    Published,
    PublishFailed,
    Receipt,
    Refuse,
    Requested,
    Start,
    Tick,
    WorkerLost,
)

WHOLE, CHANGES = Receipt("whole", 100, 0, whole=True), Receipt("changes", 10, 0, whole=False)


def taken(coordinator: Coordinator, now: int, receipt: Receipt | None = None) -> Start:
    """Takes a periodic checkpoint from its tick to its end, in a job of one worker."""
    (start,) = coordinator.decide(Tick(now))
    assert isinstance(start, Start)
    kind = receipt or (WHOLE if start.whole else CHANGES)
    assert len(coordinator.decide(Acknowledged(0, start.epoch, kind))) == 1
    assert coordinator.decide(Published(start.epoch)) == [Complete(start.epoch, False)]
    return start


def test_a_checkpoint_is_complete_when_all_have_stored_their_part_and_the_manifest_is_durable() -> None:
    coordinator = Coordinator(2, interval=10, epoch=7)
    assert coordinator.decide(Tick(9)) == []
    assert coordinator.decide(Tick(10)) == [Start(8, True, Kind.PERIODIC)]
    assert coordinator.decide(Acknowledged(1, 8, WHOLE)) == []
    assert coordinator.decide(Acknowledged(1, 8, WHOLE)) == []
    assert coordinator.decide(Published(8)) == []
    assert coordinator.decide(Acknowledged(0, 8, CHANGES)) == [Publish(8, {0: CHANGES, 1: WHOLE}, Kind.PERIODIC)]
    assert coordinator.decide(Published(8)) == [Complete(8, False)]


def test_the_next_one_begins_at_the_interval_after_the_last_began_and_not_while_it_is_in_flight() -> None:
    coordinator = Coordinator(1, interval=10, now=100)
    assert coordinator.next_due() == 110
    coordinator.decide(Tick(112))
    assert coordinator.next_due() is None
    assert coordinator.decide(Tick(130)) == []
    coordinator.decide(Acknowledged(0, 1, WHOLE))
    coordinator.decide(Published(1))
    assert coordinator.next_due() == 122
    assert coordinator.decide(Tick(130)) == [Start(2, False, Kind.PERIODIC)]


def test_a_chain_of_changes_is_cut_when_it_is_long() -> None:
    coordinator = Coordinator(1, interval=1)
    small = Receipt("small", 1, 0, whole=False)
    wholes = [taken(coordinator, now, None if now == 1 else small).whole for now in range(1, CHAIN + 1)]
    assert wholes == [True] + [False] * (CHAIN - 1)
    assert taken(coordinator, CHAIN + 1).whole


def test_a_chain_of_changes_is_cut_when_it_is_larger_than_what_it_builds_on() -> None:
    coordinator = Coordinator(1, interval=1)
    half = Receipt("half", 51, 0, whole=False)
    receipts = [WHOLE, half, half, WHOLE, half]
    wholes = [taken(coordinator, now, receipt).whole for now, receipt in enumerate(receipts, 1)]
    assert wholes == [True, False, False, True, False]


@pytest.mark.parametrize("fact", [Declined(0, 1, "the disk is full"), WorkerLost(0)])
def test_what_is_in_flight_is_given_up_with_its_reason(fact: Fact) -> None:
    coordinator = Coordinator(1, interval=1)
    coordinator.decide(Tick(1))
    abort, *rest = coordinator.decide(fact)
    assert isinstance(abort, Abort)
    assert [type(decision) for decision in rest] == ([Fail] if isinstance(fact, WorkerLost) else [])


def test_a_checkpoint_is_not_given_up_while_its_barriers_are_on_their_way() -> None:
    coordinator = Coordinator(2, interval=1)
    coordinator.decide(Tick(1))
    assert coordinator.decide(Declined(0, 1, "the disk is full")) == []
    assert coordinator.decide(Tick(2)) == []
    assert coordinator.decide(Acknowledged(1, 1, WHOLE)) == [
        Abort(1, "worker 0 cannot give its part: the disk is full")
    ]
    assert coordinator.decide(Tick(3)) == [Start(2, True, Kind.PERIODIC)]


def test_after_a_checkpoint_that_was_given_up_the_next_one_is_whole() -> None:
    coordinator = Coordinator(1, interval=1)
    taken(coordinator, 1)
    assert not taken(coordinator, 2).whole
    coordinator.decide(Tick(3))
    coordinator.decide(Declined(0, 3, "why not"))
    assert taken(coordinator, 4) == Start(4, True, Kind.PERIODIC)


def test_a_job_fails_when_too_many_in_a_row_do() -> None:
    coordinator = Coordinator(1, interval=1)
    for epoch in range(1, TOLERATED):
        coordinator.decide(Tick(epoch))
        coordinator.decide(Acknowledged(0, epoch, WHOLE))
        assert coordinator.decide(PublishFailed(epoch, "no space")) == [Abort(epoch, "no space")]
    coordinator.decide(Tick(TOLERATED))
    decisions = coordinator.decide(Declined(0, TOLERATED, "no space"))
    assert [type(decision) for decision in decisions] == [Abort, Fail]
    assert coordinator.phase is Phase.OVER


def test_a_savepoint_waits_for_what_is_in_flight_is_whole_and_carries_its_name() -> None:
    coordinator = Coordinator(1, interval=1)
    taken(coordinator, 1)
    coordinator.decide(Tick(2))
    request = Requested(Ask.SAVEPOINT, "before-upgrade")
    assert coordinator.decide(request) == []
    coordinator.decide(Acknowledged(0, 2, CHANGES))
    assert coordinator.decide(Published(2)) == [Complete(2, False), Start(3, True, Kind.SAVEPOINT)]
    assert coordinator.decide(Acknowledged(0, 3, WHOLE)) == [Publish(3, {0: WHOLE}, Kind.SAVEPOINT, "before-upgrade")]
    assert coordinator.decide(Published(3)) == [Complete(3, False, request)]


@pytest.mark.parametrize(("name", "whole"), [("", False), ("end", True)])
def test_a_stop_without_a_name_says_only_what_changed_since_the_checkpoint_before(name: str, whole: bool) -> None:
    coordinator = Coordinator(1, interval=1)
    taken(coordinator, 1)
    taken(coordinator, 2, Receipt("much", 1000, 0, whole=False))  # a periodic one would be whole now
    assert coordinator.decide(Requested(Ask.STOP, name)) == [Start(3, whole, Kind.STOP)]


def test_a_stop_is_whole_where_there_is_nothing_to_build_on() -> None:
    stop = Requested(Ask.STOP)
    assert Coordinator(1, interval=1).decide(stop) == [Start(1, True, Kind.STOP)]
    coordinator = Coordinator(1, interval=1)
    taken(coordinator, 1)
    coordinator.decide(Tick(2))
    assert coordinator.decide(stop) == []
    aborted, start = coordinator.decide(Declined(0, 2, "no space"))
    assert (type(aborted), start) == (Abort, Start(3, True, Kind.STOP))


def test_a_savepoint_that_fails_is_refused_and_the_job_goes_on() -> None:
    coordinator = Coordinator(1, interval=1)
    request = Requested(Ask.STOP, "x")
    for epoch in range(1, TOLERATED + 2):
        assert coordinator.decide(request) == [Start(epoch, True, Kind.STOP)]
        refused = coordinator.decide(Declined(0, epoch, "why not"))
        assert [type(decision) for decision in refused] == [Abort, Refuse]
    assert coordinator.phase is Phase.IDLE


def test_a_job_ends_with_the_savepoint_that_stops_it() -> None:
    coordinator = Coordinator(1, interval=1)
    stop, late = Requested(Ask.STOP, "end"), Requested(Ask.SAVEPOINT, "late")
    coordinator.decide(stop)
    coordinator.decide(Acknowledged(0, 1, WHOLE))
    assert coordinator.decide(late) == []
    assert coordinator.decide(Published(1)) == [Complete(1, True, stop), Refuse(late, "the job has ended")]
    assert coordinator.decide(late) == [Refuse(late, "the job is over")]


@pytest.mark.parametrize("interval", [None, 10])
def test_when_all_have_ended_there_is_one_last_checkpoint(interval: int | None) -> None:
    coordinator = Coordinator(2, interval)
    assert coordinator.decide(Ended(0)) == []
    assert coordinator.decide(Ended(0)) == []
    assert coordinator.decide(Ended(1)) == [Start(1, True, Kind.FINAL)]
    coordinator.decide(Acknowledged(0, 1, WHOLE))
    assert coordinator.decide(Acknowledged(1, 1, WHOLE)) == [Publish(1, {0: WHOLE, 1: WHOLE}, Kind.FINAL)]
    assert coordinator.decide(Published(1)) == [Complete(1, True)]
    assert coordinator.next_due() is None
    assert coordinator.decide(Tick(1000)) == []


def test_the_last_checkpoint_waits_for_the_one_in_flight() -> None:
    coordinator = Coordinator(1, interval=1)
    coordinator.decide(Tick(1))
    assert coordinator.decide(Ended(0)) == []
    assert [type(decision) for decision in coordinator.decide(Declined(0, 1, "why not"))] == [Abort, Start]


def test_a_last_checkpoint_that_fails_fails_the_job() -> None:
    coordinator = Coordinator(1, interval=None)
    coordinator.decide(Ended(0))
    assert [type(decision) for decision in coordinator.decide(Declined(0, 1, "why not"))] == [Abort, Fail]


def test_a_job_without_a_place_for_checkpoints_takes_none_on_the_way() -> None:
    coordinator = Coordinator(1, interval=None)
    assert coordinator.next_due() is None
    assert coordinator.decide(Tick(1 << 60)) == []
    (refused,) = coordinator.decide(Requested(Ask.SAVEPOINT, "x"))
    assert isinstance(refused, Refuse)
    assert "--checkpoint_dir" in refused.why


def test_a_job_is_drained_once() -> None:
    coordinator = Coordinator(1, interval=None)
    drain = Requested(Ask.DRAIN)
    assert coordinator.decide(drain) == [Drain(drain)]
    assert coordinator.decide(drain) == [Refuse(drain, "the job is draining already")]
    assert coordinator.decide(Ended(0)) == [Start(1, True, Kind.FINAL)]


WORKERS = 3
EPOCHS = st.integers(38, 60)


class AnyOrder(RuleBasedStateMachine):
    """Facts in any order, also such as nobody would tell."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinator = Coordinator(WORKERS, interval=10, epoch=40)
        self.now = 0
        self.epoch = 40
        self.flying: int | None = None
        self.publishing: int | None = None
        self.durable: set[int] = set()
        self.stored: set[int] = set()
        self.answered: set[int] = set()
        self.open: list[Requested] = []
        self.over = False
        self.lost = False

    def tell(self, fact: Fact) -> None:
        if isinstance(fact, Published) and fact.epoch == self.publishing:
            self.durable.add(fact.epoch)
        if isinstance(fact, Acknowledged) and fact.epoch == self.flying:
            self.stored.add(fact.worker)
        if isinstance(fact, Acknowledged | Declined) and fact.epoch == self.flying:
            self.answered.add(fact.worker)
        for decision in self.coordinator.decide(fact):
            self.obey(decision)

    def obey(self, decision: Decision) -> None:
        if isinstance(decision, Start):
            assert self.flying is None
            assert not self.over
            assert decision.epoch > self.epoch
            self.flying = self.epoch = decision.epoch
            self.stored, self.answered = set(), set()
        elif isinstance(decision, Publish):
            assert decision.epoch == self.flying
            assert set(decision.receipts) == self.stored == set(range(WORKERS))
            self.publishing = decision.epoch
        elif isinstance(decision, Complete):
            assert decision.epoch == self.flying
            assert decision.epoch in self.durable
            self.flying = self.publishing = None
            self.over = self.over or decision.final
            if decision.request is not None:
                self.open.remove(decision.request)
        elif isinstance(decision, Abort):
            assert decision.epoch == self.flying
            assert decision.epoch not in self.durable
            assert len(self.answered) == WORKERS or self.lost
            self.flying = self.publishing = None
        elif isinstance(decision, Refuse | Drain):
            self.open.remove(decision.request)
        else:
            assert isinstance(decision, Fail)
            assert not self.over
            self.over = True

    @rule(later=st.integers(0, 25))
    def tick(self, later: int) -> None:
        self.now += later
        self.tell(Tick(self.now))

    @rule(worker=st.integers(0, WORKERS - 1), epoch=EPOCHS, whole=st.booleans())
    def acknowledge_any(self, worker: int, epoch: int, whole: bool) -> None:
        self.tell(Acknowledged(worker, epoch, WHOLE if whole else CHANGES))

    @precondition(lambda self: self.flying)
    @rule(worker=st.integers(0, WORKERS - 1))
    def acknowledge(self, worker: int) -> None:
        assert self.flying is not None
        self.tell(Acknowledged(worker, self.flying, WHOLE))

    @precondition(lambda self: self.publishing)
    @rule(fails=st.booleans())
    def publish(self, fails: bool) -> None:
        assert self.publishing is not None
        self.tell(PublishFailed(self.publishing, "no space") if fails else Published(self.publishing))

    @rule(epoch=EPOCHS)
    def publish_any(self, epoch: int) -> None:
        self.tell(Published(epoch))

    @rule(worker=st.integers(0, WORKERS - 1), epoch=EPOCHS)
    def decline_any(self, worker: int, epoch: int) -> None:
        self.tell(Declined(worker, epoch, "why not"))

    @rule(ask=st.sampled_from(Ask))
    def request(self, ask: Ask) -> None:
        request = Requested(ask, f"request-{len(self.open)}-{self.now}")
        self.open.append(request)
        self.tell(request)

    @rule(worker=st.integers(0, WORKERS - 1))
    def end(self, worker: int) -> None:
        self.tell(Ended(worker))

    @precondition(lambda self: self.now > 40)
    @rule(worker=st.integers(0, WORKERS - 1))
    def lose(self, worker: int) -> None:
        self.lost = True
        self.tell(WorkerLost(worker))

    @invariant()
    def no_request_is_forgotten(self) -> None:
        if self.flying is None:
            assert self.open == []

    @invariant()
    def a_tick_is_wanted_when_there_is_something_to_begin(self) -> None:
        due = self.coordinator.next_due()
        assert (due is not None) == (self.flying is None and not self.over)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
