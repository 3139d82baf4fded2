"""What happens next, by a seed: every choice of a simulation is made here, and every event is noted."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
_KINDS = ("write", "sync", "rename", "link", "remove", "send", "produce", "commit", "abort")
_OF_A_KIND = 11


class Crash(BaseException):
    """What runs is gone. No error of a step: nothing that handles one may handle this."""


class CrashKind(enum.Enum):
    """What a crash takes with it."""

    POWER = "the power fails"
    """Every process, and all that was not synced."""
    KILLED = "the job is killed"
    """Every process; what was written is there, synced or not."""
    WORKER = "a worker is lost"
    """What the others had begun to store may still be stored, late."""


@dataclass
class FaultSchedule:
    """The choices of one simulation.

    State: how many crash points were passed, the log, and whether what comes now is only the end of what has crashed.

    Args:
        seed: decides everything.
        crashes: the most crashes there are (count).
        horizon: about how many crash points a run has that is not interrupted (count): crashes are spread over them.
    """

    seed: int
    crashes: int = 3
    horizon: int = 300
    log: list[str] = field(init=False, default_factory=list)
    passed: int = field(init=False, default=0)
    ending: bool = field(init=False, default=False)
    _left: int = field(init=False)
    _aim: str = field(init=False)
    _wait: int = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._left = self._random.randint(min(1, self.crashes), self.crashes)
        self._take_aim()

    def _take_aim(self) -> None:
        """Chooses the next crash: after so many points of any kind, or of one kind, for some are rare.

        Few points are as likely as any number: that is when a recovery is hit.
        """
        self._aim = self.one_of(_KINDS) if self.one_in(2) else ""
        if self._aim:
            self._wait = 1 + self.upto(_OF_A_KIND)
        else:
            self._wait = 1 + int(self.horizon * self._random.random() ** self.one_of((1, 1, 3)))

    def point(self, kind: str, what: str = "") -> None:
        """Something is about to happen that a crash could prevent.

        Raises:
            Crash: it does not happen.
        """
        if self.ending:
            raise Crash
        self.passed += 1
        self.note(kind, what)
        if self._aim in ("", kind):
            self._wait -= 1
        if self._left and not self._wait:
            self._left -= 1
            self._take_aim()
            self.note("crash", "")
            raise Crash

    def note(self, kind: str, what: str) -> None:
        """Writes an event into the log."""
        self.log.append(f"{kind} {what}")

    def one_in(self, count: int) -> bool:
        """True once in so many times."""
        return self._random.randrange(count) == 0

    def upto(self, most: int) -> int:
        """A number from 0 to ``most``."""
        return self._random.randint(0, most)

    def one_of(self, choices: Sequence[T]) -> T:
        """One of some choices."""
        return choices[self._random.randrange(len(choices))]
