"""Wall-clock time, as the engine reads it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.operators.base.context import Clock


class WallClock:
    """The system's clock."""

    def now_micros(self) -> int:
        return time.time_ns() // 1_000

    def sleep_until(self, micros: int) -> None:
        """Waits until a processing time (microseconds since the epoch)."""
        wait = (micros - self.now_micros()) / 1e6
        if wait > 0:
            time.sleep(wait)


@contextlib.contextmanager
def beam_time(clock: Clock) -> Iterator[None]:
    """Has Beam's ``Timestamp.now`` read a job's clock, on which Beam's own transforms set their timers."""
    systems = Timestamp.__dict__["now"]
    Timestamp.now = staticmethod(lambda: Timestamp(micros=clock.now_micros()))
    try:
        yield
    finally:
        Timestamp.now = systems
