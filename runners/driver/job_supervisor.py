"""What a job of several attempts can be asked, in however many processes it runs."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from sage.runners.deployment.recovery import RecoveryOptions
from sage.runners.driver.attempts import Attempts
from sage.runners.driver.checkpoint_driver import CheckpointDriver, CompletedCheckpoint, request_of
from sage.runners.engine.checkpoint.protocol import Requested


class JobSupervisor:
    """State: the attempts; the conductor of the one at hand; whether the job is cancelled.

    Args:
        durability: what is for the case that the job fails.
    """

    defers_signals = True
    """Whether a signal's exception is kept until no user code is at work; the job then ends soon by `cancel`."""

    def __init__(self, durability: RecoveryOptions) -> None:
        self._attempts = Attempts(durability)
        self._checkpoint_driver: CheckpointDriver | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Asks the job to stop, which it does between two pieces of work; no other attempt begins."""
        self._cancelled = True
        self._attempts.stop()

    def ask(self, request: Requested) -> Future[Any]:
        """Asks for a savepoint, a stop or a drain; the answer comes by the future."""
        return request_of(self._checkpoint_driver, request)

    @property
    def last_checkpoint(self) -> CompletedCheckpoint | None:
        """The last checkpoint that is durable."""
        return None if self._checkpoint_driver is None else self._checkpoint_driver.last

    @property
    def restarts(self) -> int:
        """How often the job began again (count)."""
        return self._attempts.restarts

    @property
    def durable(self) -> bool:
        """Whether the job keeps checkpoints."""
        return self._attempts.durable

    def _close(self, checkpoint_driver: CheckpointDriver, failed: str) -> None:
        """An attempt is over; ``failed`` is empty if it went well. A job asked to stop does not begin again."""
        if checkpoint_driver.close(failed or "the job has ended"):
            self._attempts.stop()
