"""The broker of the Kafka benchmarks: the one that the tests use, or what ``SAGE_TEST_KAFKA=host:port`` names."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import ROOT, Failed, child_environment

__all__ = ["Pace", "broker", "child", "pace"]

_LOOK_S = 0.03


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


@contextlib.contextmanager
def child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that runs until it is killed; what it complains of is told if it ends before.

    Raises:
        Failed: it ended by itself, and what was done with it has failed.
    """
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=ROOT, env=child_environment(), stderr=told, text=True)
        try:
            yield process
        except Failed as error:
            told.seek(0)
            raise Failed(f"{error}: {told.read()[-300:]}" if process.poll() is not None else str(error)) from None
        finally:
            process.kill()
            process.wait()


class Pace(NamedTuple):
    """How fast records come out of a process.

    Attributes:
        rate: records in a second (count).
        by_cpu: records in a second of the process's CPU time, all threads together (count).
    """

    rate: float
    by_cpu: float


def pace(process: subprocess.Popen[str], seen_now: Callable[[], int], enough: int, patience: float = 120) -> Pace:
    """How fast records come, from the first commit that is seen to the one with which there are enough.

    Start-up does not count, nor the end, when a process would wait with less than a whole transaction.

    Args:
        process: what makes them.
        seen_now: how many a reader of committed records sees.
        enough: with how many it is over (count).
        patience: how long to wait for the next ones (seconds).

    Raises:
        Failed: no more came.
    """
    seen = first = 0
    at = began = time.monotonic()
    cpu = began_cpu = 0.0
    while seen < enough:
        time.sleep(_LOOK_S)
        if process.poll() is not None or time.monotonic() - at > patience:
            raise Failed(f"it ended with {seen} of {enough}")
        now = seen_now()
        if now > seen:
            seen, at, cpu = now, time.monotonic(), _cpu_seconds(process.pid)
            if not first:
                first, began, began_cpu = seen, at, cpu
    if at <= began:
        raise Failed(f"all {seen} came at once: more are needed to tell how fast")
    return Pace((seen - first) / (at - began), (seen - first) / max(cpu - began_cpu, 0.01))


def _cpu_seconds(pid: int) -> float:
    # The name in brackets may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
