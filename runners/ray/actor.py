"""A worker in a Ray actor: its messages are calls of the actor's methods."""

from __future__ import annotations

import pickle
from typing import Any

from sage.runners.deployment.nesting import refuse_jobs
from sage.runners.deployment.worker_spec import Cancelled, WorkerSpec, portable_error
from sage.runners.ray.inbox import Inbox
from sage.runners.worker.credit_exchange import DRIVER
from sage.runners.worker.process import run_worker


class Worker:
    """One worker of a job. Its methods are called from other processes, `run` once and beside all the others.

    Args:
        order: what to run, pickled.
    """

    def __init__(self, order: bytes) -> None:
        self._order: WorkerSpec = pickle.loads(order)
        self._inbox = Inbox()
        self._peers: list[Any] = []
        self._sent: list[int] = [0] * self._order.workers
        self._reported: bytes | None = None

    def run(self, peers: list[Any]) -> bytes | None:
        """Runs the order to its end; its last report, or None if it was cancelled."""
        self._peers = peers
        try:
            refuse_jobs()
            self._order.prepare()
            run_worker(self._order, self._write, self._inbox, self._report)
        except Cancelled:
            return None
        except Exception as error:
            return portable_error(error)
        return self._reported

    def deliver(self, sender: int, number: int, data: bytes) -> None:
        """Takes a message of a peer."""
        self._inbox.put(sender, number, data)

    def cancel(self) -> None:
        """The driver wants this worker to stop."""
        self._inbox.put(DRIVER, 0, None)

    def progress(self) -> bytes | None:
        """The last report so far."""
        return self._reported

    def _write(self, peer: int, data: bytes) -> None:
        # Nobody waits for the call: credits bound what is under way, and the driver finds a peer that died.
        self._peers[peer].deliver.remote(self._order.worker, self._sent[peer], data)
        self._sent[peer] += 1

    def _report(self, data: bytes) -> None:
        self._reported = data
