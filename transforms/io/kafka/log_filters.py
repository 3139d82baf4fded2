"""Less of what kafka-python logs while a broker does not answer: it says four things for each attempt to connect."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

__all__ = ["Seldom", "connecting", "quieten"]

_EVERY_S = 30.0
_LOGGERS = ("kafka.net.manager", "kafka.net.connection", "kafka.net.inet")


class Seldom(logging.Filter):
    """Lets a warning or an error pass if none from the same line of code has passed for a while.

    State: when each line of code was last heard.

    Args:
        every_s: for how long a line of code is silent (seconds).
        now_s: a clock (seconds).
    """

    def __init__(self, every_s: float = _EVERY_S, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._now_s = now_s
        self._heard: dict[tuple[str, int], float] = {}
        self._connecting = 0

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        """Lets nothing pass inside: who makes a first connection says itself that nobody answers."""
        self._connecting += 1
        try:
            yield
        finally:
            self._connecting -= 1

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if self._connecting:
            return False
        place, now = (record.pathname, record.lineno), self._now_s()
        if place in self._heard and now - self._heard[place] < self._every_s:
            return False
        self._heard[place] = now
        return True


_SELDOM = Seldom()


def quieten() -> None:
    """Has the connections of kafka-python complain seldom, in this process; levels and handlers stay as they are."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_SELDOM)  # once, however often it is called


def connecting() -> contextlib.AbstractContextManager[None]:
    """Silences the connections of kafka-python inside, in this process."""
    return _SELDOM.connecting()
