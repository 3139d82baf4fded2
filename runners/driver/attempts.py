"""A job that fails begins again from its last checkpoint, as often as its restart policy allows."""

from __future__ import annotations

import datetime
import logging
import posixpath
import threading
import time
from collections.abc import Callable

from sage.errors import CheckpointError, Fault, StepError, WorkerLost, message_of
from sage.runners.deployment.recovery import AttemptCheckpoints, RecoveryOptions
from sage.runners.engine.checkpoint.restarts import restart_policy
from sage.runners.state.restoring import manifest_at
from sage.runners.state.snapshots import CheckpointStore

_log = logging.getLogger(__name__)


class Attempts:
    """State: when the job failed so far (microseconds); how often it began again (count); the store of its
    checkpoints, while it runs.
    """

    def __init__(self, durability: RecoveryOptions) -> None:
        self._durability = durability
        self._policy = restart_policy(durability.restart)
        self._stopped = threading.Event()
        self.store: CheckpointStore | None = None
        self.restarts = 0
        self._failures: list[int] = []

    @property
    def durable(self) -> bool:
        """Whether there is a place for checkpoints."""
        return self._durability.directory is not None

    def stop(self) -> None:
        """There is to be no other attempt."""
        self._stopped.set()

    def run(self, attempt: Callable[[AttemptCheckpoints], None]) -> None:
        """Runs the job until an attempt ends well, or until it is stopped while it waits for the next one.

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

    def _run(self, attempt: Callable[[AttemptCheckpoints], None]) -> None:
        kept: AttemptCheckpoints | None = self._next()  # what cannot be begun from is refused at once
        while True:
            try:
                return attempt(kept or self._next())
            except (StepError, WorkerLost, CheckpointError) as error:
                if error.fault is Fault.CONFIGURATION or (isinstance(error, CheckpointError) and error.lasting):
                    raise  # it is wrong the next time too
                self._failures.append(time.time_ns() // 1_000)
                wait = self._policy.delay(self._failures)
                if wait is None or self._stopped.is_set():
                    if isinstance(error, WorkerLost):
                        error.args = (f"{message_of(error)}. {self._advice}",)
                    raise
                _log.warning("the job failed and begins again in %.1f s: %s", wait / 1e6, message_of(error))
                if self._stopped.wait(wait / 1e6):
                    return None  # cancelled meanwhile; the failure is told
                self.restarts += 1
                kept = None

    def _next(self) -> AttemptCheckpoints:
        """The checkpoints of the next attempt."""
        chosen, store = self._durability.restore_from, self.store
        if store is None:
            begin = None if chosen is None else manifest_at(chosen)
        else:
            begin = store.choose(chosen)
        if begin is not None:
            taken = datetime.datetime.fromtimestamp(begin.created, datetime.timezone.utc)
            where = begin.url if begin.url == chosen else posixpath.basename(begin.url)
            _log.info("%s goes on from %s (taken %s)", self._durability.job, where, f"{taken:%Y-%m-%d %H:%M:%S} UTC")
        elif store is not None:
            _log.info("%s begins anew: no checkpoint in %s", self._durability.job, store.path)
        if store is None:
            return AttemptCheckpoints(self._durability, begin=begin)
        return AttemptCheckpoints(self._durability, store.new_run(), begin, store.last_epoch())

    @property
    def _advice(self) -> str:
        if self.durable:
            return "Run it again: it goes on from its last checkpoint"
        return "The job's output is incomplete; run it again"
