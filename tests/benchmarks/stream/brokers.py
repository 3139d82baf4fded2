"""The broker of the Kafka benchmarks: the one that the tests use, or what ``SAGE_TEST_KAFKA=host:port`` names."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.measure import Failed

__all__ = ["broker", "watched"]


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """Bootstrap servers, as ``host:port``.

    Raises:
        Failed: there can be no broker here.
    """
    address = os.environ.get("SAGE_TEST_KAFKA", "")
    if address:
        yield address
        return
    from tests.kafka.broker import Unavailable, shared

    with tempfile.TemporaryDirectory() as folder:
        try:
            address, _lease = shared(Path(folder))
        except Unavailable as error:
            raise Failed(str(error)) from None
        yield address


def watched(seen_now: Callable[[], int], alive: Callable[[], bool], enough: int, patience: float = 120) -> float:
    """How many come a second (count): from the first that are seen to the last.

    Args:
        seen_now: how many there are.
        alive: whether more can come.
        enough: with how many it is over (count).
        patience: how long to wait for the next ones (seconds).

    Raises:
        Failed: no more came.
    """
    seen, began, first, at = 0, 0.0, 0, time.monotonic()
    while seen < enough:
        time.sleep(0.05)
        if not alive() or time.monotonic() - at > patience:
            raise Failed(f"it ended with {seen} of {enough}")
        now = seen_now()
        if now > seen:
            seen, at = now, time.monotonic()
            if not began:
                began, first = at, now
    return (seen - first) / (at - began) if at > began else 0.0
