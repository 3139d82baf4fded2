"""Whether a job that failed begins again, and after how long."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sage.options import parse_restart


class RestartPolicy(Protocol):
    """Decides about a failure by the failures so far."""

    def delay(self, failures: Sequence[int]) -> int | None:
        """How long to wait before the job begins again (microseconds); None if it does not.

        Args:
            failures: when the job failed (microseconds), in order; the last is the one to decide about.
        """


@dataclass(frozen=True)
class Never:
    """The first failure is the last."""

    def delay(self, failures: Sequence[int]) -> int | None:
        return None


@dataclass(frozen=True)
class FixedDelay:
    """Begins again ``attempts`` times (count), each time after ``wait`` (microseconds)."""

    attempts: int
    wait: int

    def delay(self, failures: Sequence[int]) -> int | None:
        return self.wait if len(failures) <= self.attempts else None


@dataclass(frozen=True)
class Exponential:
    """Begins again without end, after delays that grow from ``initial`` to ``most`` (microseconds).

    Attributes:
        multiplier: how much longer each delay is than the one before.
        reset: after so long without a failure (microseconds) delays begin at the initial one again.
    """

    initial: int
    most: int
    multiplier: float = 2.0
    reset: int = 3_600_000_000

    def delay(self, failures: Sequence[int]) -> int | None:
        wait = self.initial
        for before, now in itertools.pairwise(failures):
            wait = self.initial if now - before > self.reset else min(round(wait * self.multiplier), self.most)
        return wait


@dataclass(frozen=True)
class FailureRate:
    """Begins again after ``wait``, unless there were more than ``most`` failures (count) within ``interval``.

    Times are in microseconds.
    """

    most: int
    interval: int
    wait: int

    def delay(self, failures: Sequence[int]) -> int | None:
        recent = [at for at in failures if failures[-1] - at <= self.interval]
        return self.wait if len(recent) <= self.most else None


def restart_policy(text: str) -> RestartPolicy:
    """The policy that an option's text describes: see `sage.options.parse_restart` for what can be written.

    Raises:
        ConfigError: the text describes none.
    """
    kind, numbers = parse_restart(text)
    if kind == "fixed-delay":
        attempts, wait = numbers
        return FixedDelay(attempts, wait * 1000)
    if kind == "exponential":
        initial, most = numbers
        return Exponential(initial * 1000, most * 1000)
    if kind == "failure-rate":
        count, interval, wait = numbers
        return FailureRate(count, interval * 1000, wait * 1000)
    return Never()
