"""The driver of N worker processes: starts them, watches them, and gathers what they report."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from sage.errors import WorkerLost
from sage.handle import ExecutionPath, StepProgress
from sage.runners.hosting.metrics import merge_metrics
from sage.runners.hosting.order import Order, raise_reported
from sage.runners.hosting.progress import merge_progress
from sage.runners.local.zygote import zygote

_GRACE_SECONDS = 5.0


class Cluster:
    """The worker processes of one job.

    State: one control connection for each worker, and what each last reported.
    """

    def __init__(self, orders: Sequence[Order]) -> None:
        self._progress: list[Sequence[StepProgress]] = [[] for _ in orders]
        self._metrics: list[dict[str, Any]] = []
        self._paths: dict[str, ExecutionPath] = {}
        self._controls: list[Connection] = []
        self._pids: list[int] = []
        self._open: dict[Connection, int] = {}
        self.cancelled = False
        self._start(orders)

    def _start(self, orders: Sequence[Order]) -> None:
        count = len(orders)
        ends: list[dict[int, socket.socket]] = [{} for _ in orders]
        for left in range(count):
            for right in range(left + 1, count):
                ends[left][right], ends[right][left] = socket.socketpair()
        for index, order in enumerate(orders):
            mine, theirs = socket.socketpair()
            peers = [ends[index][other] for other in sorted(ends[index])]
            self._pids.append(zygote().fork([theirs.fileno(), *(peer.fileno() for peer in peers)]))
            theirs.close()
            for peer in peers:
                peer.close()
            control = Connection(mine.detach())
            control.send_bytes(pickle.dumps(order))
            self._controls.append(control)
            self._open[control] = index

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, all workers together."""
        return merge_progress(self._progress)

    def metrics(self) -> dict[str, Any]:
        """User metrics of the workers that have ended."""
        return merge_metrics(self._metrics)

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step ran, known when the workers have ended."""
        return dict(self._paths)

    def cancel(self) -> None:
        """Asks all workers to stop."""
        self.cancelled = True
        for control in list(self._open):
            with contextlib.suppress(OSError):
                control.send_bytes(b"cancel")

    def run(self) -> None:
        """Waits for all workers.

        Raises:
            StepError: a step failed at some worker; the others are stopped.
            WorkerLost: a worker ended without a report.
        """
        try:
            while self._open:
                for control in wait(list(self._open)):
                    self._hear(control)  # type: ignore[arg-type]
        finally:
            self._stop()

    def _hear(self, control: Connection) -> None:
        index = self._open[control]
        try:
            report = pickle.loads(control.recv_bytes())
        except (EOFError, OSError) as error:
            del self._open[control]
            if self.cancelled:
                return
            raise WorkerLost(
                f"worker {index} (process {self._pids[index]}) ended without a report: it was killed, ran out of"
                " memory, or crashed in native code. The job's output is incomplete; run it again."
            ) from error
        if report[0] == "progress":
            self._progress[index] = report[1]
        elif report[0] == "done":
            _, self._progress[index], metrics, paths = report
            self._metrics.append(metrics)
            self._paths.update(paths)
            del self._open[control]
        else:
            raise_reported(*report[1:])

    def _stop(self) -> None:
        """Ends what still runs: a polite word first, then the signal that cannot be refused."""
        running = list(self._open)
        for control in running:
            with contextlib.suppress(OSError):
                control.send_bytes(b"cancel")
        for control in running:
            with contextlib.suppress(EOFError, OSError):
                while control.poll(_GRACE_SECONDS):
                    control.recv_bytes()
        for control, index in list(self._open.items()):
            if control in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pids[index], signal.SIGKILL)
        for control in self._controls:
            control.close()
