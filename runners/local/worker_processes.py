"""The worker processes of one attempt: starts them, watches them, and gathers what they report."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from sage.errors import WorkerLost
from sage.runners.deployment.worker_spec import WorkerSpec
from sage.runners.driver.checkpoint_driver import CheckpointDriver
from sage.runners.driver.worker_reports import WorkerReports
from sage.runners.engine.checkpoint.protocol import Fact
from sage.runners.local.zygote import fork
from sage.runners.worker.checkpointer import Command
from sage.runners.worker.process import CANCEL
from sage.runners.worker.worker_output import OutputReplayer, levels

_GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.25


class WorkerProcesses(WorkerReports):
    """The worker processes of one attempt at a job.

    State: one control connection for each worker, and what each last reported.
    """

    def __init__(self, orders: Sequence[WorkerSpec]) -> None:
        super().__init__(len(orders))
        self._controls: list[Connection] = []
        self._pids: list[int] = []
        self._open: dict[Connection, int] = {}
        self._heard, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._checkpoint_driver: CheckpointDriver | None = None
        self._replayer = OutputReplayer()
        self.cancelled_at: float | None = None
        self._start(orders)

    def _start(self, orders: Sequence[WorkerSpec]) -> None:
        count = len(orders)
        ends: list[dict[int, socket.socket]] = [{} for _ in orders]
        for left in range(count):
            for right in range(left + 1, count):
                ends[left][right], ends[right][left] = socket.socketpair()
        for index, order in enumerate(orders):
            mine, theirs = socket.socketpair()
            peers = [ends[index][other] for other in sorted(ends[index])]
            self._pids.append(fork([theirs.fileno(), *(peer.fileno() for peer in peers)]))
            theirs.close()
            for peer in peers:
                peer.close()
            control = Connection(mine.detach())
            control.send_bytes(pickle.dumps((order, levels())))
            self._controls.append(control)
            self._open[control] = index

    def wake(self) -> None:
        """Has the driver look up: there is something for the conductor. Called from any thread."""
        with contextlib.suppress(OSError):  # a bell that is full rings already
            self._bell.send(b"!")

    def cancel(self) -> None:
        """Asks all workers to stop. Called from any thread."""
        self.cancelled_at = time.monotonic()
        self.wake()

    def command(self, command: Command) -> None:
        """Tells all workers."""
        self._say(pickle.dumps(command))

    def _say(self, message: bytes) -> None:
        for control in list(self._open):
            with contextlib.suppress(OSError):
                control.send_bytes(message)

    def on_fact(self, fact: Fact) -> None:
        if self._checkpoint_driver is not None:
            self._checkpoint_driver.post(fact)

    def on_output(self, kind: str, content: Any) -> None:
        self._replayer.replay(kind, content)

    def run(self, checkpoint_driver: CheckpointDriver) -> None:
        """Waits for all workers, and does what checkpoints ask for meanwhile.

        Raises:
            StepError: a step failed at some worker; the others are stopped.
            WorkerLost: a worker ended without a report.
        """
        try:
            self._checkpoint_driver = checkpoint_driver
            asked = False
            while self._open and not self._overdue():
                if self.cancelled_at is not None and not asked:
                    asked = True
                    self._say(CANCEL)
                for ready in wait([*self._open, self._heard], self._patience(checkpoint_driver)):
                    if ready is self._heard:
                        self._heard.recv(4096)
                    else:
                        self._hear(ready)  # type: ignore[arg-type]
                if self.cancelled_at is None:
                    checkpoint_driver.run_pending()
        except WorkerLost as lost:
            if self.cancelled_at is None:
                root = self._root_of(lost)
                raise root from root.__cause__
        finally:
            self._stop()

    def _patience(self, checkpoint_driver: CheckpointDriver) -> float:
        due = checkpoint_driver.next_due()
        if due is None or self.cancelled_at is not None:
            return _LOOK_SECONDS
        return min(max((due - time.time_ns() // 1_000) / 1e6, 0.0), _LOOK_SECONDS)

    def _root_of(self, lost: WorkerLost) -> WorkerLost:
        """The worker that was lost first: its peers find that it is gone, and may be heard before it is.

        Raises:
            StepError: the worker is gone because a step failed there.
        """
        deadline = time.monotonic() + _GRACE_SECONDS
        while not lost.__cause__ and self._open and (left := deadline - time.monotonic()) > 0:
            for control in wait(list(self._open), left):
                try:
                    self._hear(control)  # type: ignore[arg-type]
                except WorkerLost as other:
                    lost = other
        return lost

    def _overdue(self) -> bool:
        """Whether a cancelled job has had its time to stop by itself: a worker inside a user's function does not."""
        return self.cancelled_at is not None and time.monotonic() > self.cancelled_at + _GRACE_SECONDS

    def _hear(self, control: Connection) -> None:
        index = self._open[control]
        try:
            data = control.recv_bytes()
        except (EOFError, OSError) as error:
            del self._open[control]
            if self.cancelled_at is not None:
                return
            raise WorkerLost(
                f"worker {index} (process {self._pids[index]}) ended without a report: it was killed, ran out of"
                " memory, or crashed in native code"
            ) from error
        try:
            ended = self.receive(index, data)
        except BaseException:
            del self._open[control]
            raise
        if ended:
            del self._open[control]

    def _stop(self) -> None:
        """Ends what still runs: a polite word first, then the signal that cannot be refused."""
        self._say(CANCEL)
        deadline = time.monotonic() + _GRACE_SECONDS
        running = dict(self._open)
        while running and (left := deadline - time.monotonic()) > 0:
            for ready in wait(list(running), left):
                try:
                    self._replayer.replay_last(ready.recv_bytes())  # type: ignore[union-attr]
                except (EOFError, OSError):
                    del running[ready]  # type: ignore[arg-type]
        for index in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pids[index], signal.SIGKILL)
        for control in self._controls:
            control.close()
        self._heard.close()
        self._bell.close()
