"""A worker's side of checkpoints: it obeys the driver, and stores what its stages hold.

What the driver says is kept until no stage is at work, and is then done in the order it was said.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from sage.runners.deployment.recovery import Write
from sage.runners.engine.checkpoint.protocol import (
    Acknowledged,
    Complete,
    Declined,
    Drain,
    Ended,
    Fact,
    Receipt,
    Start,
)
from sage.runners.engine.checkpoint.snapshot import Barrier, StageSnapshot
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.transactions import Deferred

Command = Start | Complete | Drain

NOTHING = Receipt("", 0, 0, True)


class WorkerCheckpointer:
    """State: what the driver said and is not done yet; whether the job is over for this worker.

    Args:
        flow: the stages of this worker.
        worker: which worker this is.
        write: stores snapshots, in a thread of its own; None where there is no place for them.
        tell: takes facts to the coordinator; called from any thread.
        beside: runs what stores; None for a thread of its own.
    """

    def __init__(
        self,
        flow: Dataflow,
        worker: int,
        write: Write | None,
        post: Callable[[Fact], None],
        executor: Executor | None = None,
    ) -> None:
        self._flow = flow
        self._worker = worker
        self._write = write
        self._post = post
        self._commands: deque[Command] = deque()
        self._ended = False
        self._thread = None if write is None else executor or ThreadPoolExecutor(1, "checkpoint")
        self.over = False
        flow.on_snapshots(self._taken)

    def enqueue(self, command: Command) -> None:
        """Takes a command; it is done by `attend`."""
        self._commands.append(command)

    def run_pending(self) -> None:
        """Does what was said. Called between two pieces of work."""
        while self._commands:
            command = self._commands.popleft()
            if isinstance(command, Start):
                self._flow.checkpoint(Barrier(command.epoch, command.whole))
            elif isinstance(command, Complete):
                self._settle(self._flow.on_checkpoint_complete(), command.final)
                self.over = command.final
            else:
                self._flow.drain()

    def _settle(self, commits: Sequence[Deferred], final: bool) -> None:
        for commit in commits:
            if final or self._thread is None:
                commit.result()
            else:
                self._thread.submit(_attempt, commit)

    def report_idle(self) -> None:
        """There is nothing to do: says so, once, if nothing will ever come."""
        if not self._ended and self._flow.finished:
            self._ended = True
            self._post(Ended(self._worker))

    def close(self) -> None:
        """Waits for what is being stored and committed."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _taken(self, barrier: Barrier, snapshots: Mapping[int, StageSnapshot]) -> None:
        if self._thread is None:
            self._post(Acknowledged(self._worker, barrier.epoch, NOTHING))
        else:
            self._thread.submit(self._store, barrier, snapshots)

    def _store(self, barrier: Barrier, snapshots: Mapping[int, StageSnapshot]) -> None:
        assert self._write is not None
        try:
            receipt = self._write(barrier.epoch, {stage: _resolved(each) for stage, each in snapshots.items()})
        except Exception as error:
            self._post(Declined(self._worker, barrier.epoch, f"{type(error).__name__}: {error}"))
        else:
            self._post(Acknowledged(self._worker, barrier.epoch, receipt))


def _attempt(later: Deferred) -> None:
    with contextlib.suppress(Exception):  # whoever waits for it tries again, and is told
        later.result()


def _resolved(snapshot: StageSnapshot) -> StageSnapshot:
    """The snapshot with the handles of its sinks, those that have to be asked for too."""
    return replace(
        snapshot, sinks={step: [*map(Deferred.resolve, handles)] for step, handles in snapshot.sinks.items()}
    )
