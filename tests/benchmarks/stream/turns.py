"""Turns in the Python that has the peer, on one core: what a way does there is what it does per core."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import ROOT, Failed, child_command, child_environment, parse_turn
from tests.benchmarks.stream.interpreters import PEERS, interpreter

__all__ = ["busy_seconds", "idlest_core", "take_turn"]


def take_turn(module: str, way: str, *, timeout: float = 900, **arguments: Any) -> dict[str, Any]:
    """What ``run_<way>`` of ``tests.benchmarks.<module>`` gives, in a fresh process of the Python that has the way.

    Raises:
        Failed: no Python has it, or it raised, or took longer than ``timeout`` seconds.
    """
    python = interpreter(way)
    if python is None:
        package, variable, _ = PEERS[way]
        raise Failed(f"no Python has {package}: `make bench-stream` installs it, or {variable} names one that has")
    command = [python, *child_command(module, way, [0], **arguments)[1:]]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{way} did not finish in {timeout:.0f} s") from None
    return parse_turn(done.stdout, done.stderr).extra


def busy_seconds() -> float:
    """CPU seconds of this process and of those below it: what a peer does in Java counts, too."""
    ticks: dict[int, tuple[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks[int(stat.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    found, mine = 0, {os.getpid()}
    while mine:
        found += sum(ticks[pid][1] for pid in mine if pid in ticks)
        mine = {pid for pid, (parent, _) in ticks.items() if parent in mine}
    return found / os.sysconf("SC_CLK_TCK")


def idlest_core(seconds: float = 0.3) -> int:
    """The core of this machine that had the least to do in a short while; 0 where the system does not tell."""
    try:
        before = _busy()
        time.sleep(seconds)
        after = _busy()
    except OSError:
        return 0
    allowed = os.sched_getaffinity(0)
    return min(allowed, key=lambda core: after.get(core, 0) - before.get(core, 0))


def _busy() -> dict[int, int]:
    """By core, how long it was not idle (ticks)."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            found[int(name[3:])] = sum(map(int, ticks)) - int(ticks[3]) - int(ticks[4])
    return found
