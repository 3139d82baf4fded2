"""Wall-clock time, as the engine reads it."""

from __future__ import annotations

import time


class WallClock:
    """The system's clock."""

    def now_micros(self) -> int:
        return time.time_ns() // 1_000

    def sleep_until(self, micros: int) -> None:
        """Waits until a processing time (microseconds since the epoch)."""
        wait = (micros - self.now_micros()) / 1e6
        if wait > 0:
            time.sleep(wait)
