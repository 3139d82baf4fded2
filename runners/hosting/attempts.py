"""A job that fails begins again from its last checkpoint, as often as its restart policy allows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sage.errors import CheckpointError, Fault, StepError, WorkerLost, message_of
from sage.runners.engine.checkpoint.restarts import restart_policy
from sage.runners.hosting.checkpoints import Checkpoints, Durability
from sage.runners.state.restoring import manifest_at
from sage.runners.state.snapshots import CheckpointStore

_log = logging.getLogger(__name__)


class Attempts:
    """State: when the job failed so far (microseconds); the store of its checkpoints, while it runs."""

    def __init__(self, durability: Durability) -> None:
        self._durability = durability
        self._policy = restart_policy(durability.restart)
        self._stopped = threading.Event()
        self.store: CheckpointStore | None = None
        self.failures: list[int] = []

    def stop(self) -> None:
        """There is to be no other attempt."""
        self._stopped.set()

    def run(self, attempt: Callable[[Checkpoints], None]) -> None:
        """Runs the job until an attempt ends well.

        Raises:
            CheckpointError: there is no place for checkpoints, or none to begin from where there should be one.
            Exception: what ended the last attempt.
        """
        durability = self._durability
        if durability.directory is None:
            self._run(attempt)
            return
        store = self.store = CheckpointStore(durability.directory, durability.job)
        store.acquire()
        try:
            self._run(attempt)
            last = store.latest()
            if last is not None and last.finished:
                # All is written and committed: who runs the job again wants it run, not resumed at its end.
                store.retain(0)
        finally:
            store.release()

    def _run(self, attempt: Callable[[Checkpoints], None]) -> None:
        while True:
            try:
                return attempt(self._next())
            except (StepError, WorkerLost, CheckpointError) as error:
                if error.fault is Fault.CONFIGURATION:
                    raise  # it is wrong the next time too
                self.failures.append(time.time_ns() // 1_000)
                wait = self._policy.delay(self.failures)
                if wait is None or self._stopped.is_set():
                    raise
                _log.warning("the job failed and begins again in %.1f s: %s", wait / 1e6, message_of(error))
                if self._stopped.wait(wait / 1e6):
                    raise

    def _next(self) -> Checkpoints:
        """The checkpoints of the next attempt."""
        chosen = self._durability.restore_from
        if self.store is None:
            return Checkpoints(self._durability, begin=None if chosen is None else manifest_at(chosen))
        begin = self.store.choose(chosen)
        return Checkpoints(self._durability, self.store.new_run(), begin, self.store.last_epoch())
