"""The driver's side of checkpoints: what the coordinator decides is done here."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sage.errors import CheckpointError
from sage.runners.deployment.recovery import AttemptCheckpoints
from sage.runners.engine.checkpoint.protocol import (
    Abort,
    Ask,
    Complete,
    Coordinator,
    Decision,
    Drain,
    Fact,
    Fail,
    Publish,
    Published,
    PublishFailed,
    Refuse,
    Requested,
    Start,
    Tick,
)
from sage.runners.engine.core.spec import Plan
from sage.runners.state.snapshots import CheckpointStore
from sage.runners.worker.checkpointer import Command

TIDY_MICROS = 1_000_000
"""How long (microseconds) checkpoints that are not needed any more may lie about."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompletedCheckpoint:
    """A checkpoint that is durable.

    Attributes:
        epoch: its number.
        path: where it is; empty if it was kept nowhere.
        size: what was written for it (bytes).
        state: what a restore of it reads (bytes).
        began: when its barrier left (microseconds since the epoch).
        ended: when it was durable (microseconds since the epoch).
        stopped: whether the job was asked to end with it.
    """

    epoch: int
    path: str
    size: int
    state: int
    began: int
    ended: int
    stopped: bool = False


class CheckpointDriver:
    """Feeds facts to the coordinator, one after the other, and does what it decides.

    State: facts that wait, from whichever thread they came; requests that are not answered; the last checkpoint.

    Args:
        coordinator: decides.
        publish: makes a manifest durable; gives its path, and what a restore reads (bytes). It runs in a thread of its
            own. None where there is no place for checkpoints.
        command: tells all workers.
        now: the time (microseconds).
        wake: called, from any thread, when a fact has come.
        beside: runs what publishes; None for a thread of its own.
        tidy: called there when a checkpoint is durable and the workers are told; none of them waits for it.
        prompt: whether a fact is worked off where it is told, and not by the next `attend`: then ``command`` is called
            from any thread, and `attend` returns when it was.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        publish: Callable[[Publish], tuple[str, int]] | None,
        command: Callable[[Command], None],
        now: Callable[[], int],
        wake: Callable[[], None] = lambda: None,
        executor: Executor | None = None,
        tidy: Callable[[], None] = lambda: None,
        prompt: bool = False,
    ) -> None:
        self._coordinator = coordinator
        self._prompt = prompt
        self._deciding = threading.RLock()  # what is done may bring the next fact: whoever is answered may ask for more
        self._failure = ""
        self._tidy = tidy
        self._tidy_next = 0
        self._publish = publish
        self._command = command
        self._now = now
        self._wake = wake
        self._facts: queue.SimpleQueue[Fact | None] = queue.SimpleQueue()
        self._asked: dict[int, tuple[Requested, Future[Any]]] = {}
        self._thread = None if publish is None else executor or ThreadPoolExecutor(1, "publish")
        self._closed = ""
        self._began = 0
        self._published: tuple[str, int, int] = ("", 0, 0)  # path, size, state
        self.last: CompletedCheckpoint | None = None

    @staticmethod
    def of(
        kept: AttemptCheckpoints,
        store: CheckpointStore | None,
        plan: Plan,
        workers: int,
        command: Callable[[Command], None],
        now: Callable[[], int],
        wake: Callable[[], None] = lambda: None,
        prompt: bool = False,
    ) -> CheckpointDriver:
        """The conductor of one attempt; what it publishes goes to ``store``, if there is one."""
        interval = None if store is None else kept.durability.interval
        coordinator = Coordinator(workers, interval, kept.epoch, now())
        publish, tidy = kept.publisher(plan, store), kept.tidier(store)
        return CheckpointDriver(coordinator, publish, command, now, wake, tidy=tidy, prompt=prompt)

    def post(self, fact: Fact) -> None:
        """Takes a fact, from any thread."""
        if self._prompt:
            self._decide(fact)
        self._facts.put(None if self._prompt else fact)
        self._wake()

    def ask(self, request: Requested) -> Future[Any]:
        """Sends a request to the job, from any thread.

        Returns:
            A future of a `CompletedCheckpoint`, of None, or with a CheckpointError.
        """
        answer: Future[Any] = Future()
        self._asked[id(request)] = request, answer  # two may ask for the same
        if self._closed:
            self.close(self._closed)
        else:
            self.post(request)
        return answer

    def run_pending(self, timeout: float = 0.0) -> None:
        """Works off what has come and what time has brought; waits at most ``timeout`` (s) for the first fact.

        Raises:
            CheckpointError: the coordinator gives the job up.
        """
        due = self._coordinator.next_due()
        if due is not None and self._now() >= due:
            self._decide(Tick(self._now()))
        while True:
            if self._failure:
                raise CheckpointError(self._failure)
            try:
                fact = self._facts.get(timeout > 0, timeout)
            except queue.Empty:
                return
            timeout = 0.0
            if fact is not None:
                self._decide(fact)

    def next_due(self) -> int | None:
        """When `attend` has something to do if no fact comes (microseconds)."""
        return self._coordinator.next_due()

    def close(self, why: str) -> bool:
        """Ends: what was asked and not answered is answered with no. Whether a stop is among it."""
        self._closed = why
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        asked, self._asked = self._asked, {}
        for _, answer in asked.values():
            answer.set_exception(CheckpointError(why))
        return any(request.ask is Ask.STOP for request, _ in asked.values())

    def _decide(self, fact: Fact) -> None:
        with self._deciding:
            for decision in self._coordinator.decide(fact):
                self._do(decision)

    def _do(self, decision: Decision) -> None:
        if isinstance(decision, Start):
            self._began = self._now()
            self._command(decision)
        elif isinstance(decision, Publish):
            if self._thread is None:
                self._decide(Published(decision.epoch))
            else:
                self._thread.submit(self._published_or_failed, decision)
        elif isinstance(decision, Complete):
            path, size, state = self._published
            stopped = decision.request is not None and decision.request.ask is Ask.STOP
            self.last = CompletedCheckpoint(decision.epoch, path, size, state, self._began, self._now(), stopped)
            self._command(decision)
            self._answer(decision.request, self.last)
        elif isinstance(decision, Drain):
            self._command(decision)
            self._answer(decision.request, None)
        elif isinstance(decision, Refuse):
            self._asked.pop(id(decision.request))[1].set_exception(CheckpointError(decision.why))
        elif isinstance(decision, Abort):
            _log.warning("checkpoint %d is given up: %s", decision.epoch, decision.why)
        elif isinstance(decision, Fail):
            self._failure = decision.why

    def _answer(self, request: Requested | None, result: Any) -> None:
        if request is not None:
            self._asked.pop(id(request))[1].set_result(result)

    def _published_or_failed(self, decision: Publish) -> None:
        assert self._publish is not None
        try:
            path, state = self._publish(decision)
        except Exception as error:
            self.post(PublishFailed(decision.epoch, f"{type(error).__name__}: {error}"))
        else:
            self._published = path, sum(receipt.size for receipt in decision.receipts.values()), state
            self.post(Published(decision.epoch))
            self._tidied(decision)

    def _tidied(self, decision: Publish) -> None:
        # Looking through all that is there takes longer than a checkpoint of little state.
        if not decision.kind.last and self._now() < self._tidy_next:
            return
        self._tidy_next = self._now() + TIDY_MICROS
        try:
            self._tidy()
        except Exception as error:  # what is left takes room, and is tried again with the next one
            _log.warning("checkpoints that are not needed any more cannot be removed: %s", error)


def request_of(checkpoint_driver: CheckpointDriver | None, request: Requested) -> Future[Any]:
    """Asks something of a job that may not run yet, or no more."""
    if checkpoint_driver is not None:
        return checkpoint_driver.ask(request)
    answer: Future[Any] = Future()
    answer.set_exception(CheckpointError("the job does not run yet"))
    return answer
