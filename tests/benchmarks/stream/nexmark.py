"""Nexmark Q0-Q8 as unbounded streams: events a second of each way, on one core, and the ratios to each peer."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import math
import os
import signal
import statistics
import time
from typing import Any

from tests.benchmarks.measure import OURS, Failed, Row, Settings, Turn, human
from tests.benchmarks.stream.answers import NUMBERS, check
from tests.benchmarks.stream.events import LONGEST, made, stamps
from tests.benchmarks.stream.turns import busy_seconds, idlest_core, take_turn

NAME = "nexmark"
MODULE = "stream.nexmark"
WAYS = {OURS: "ours", "bytewax": "with_bytewax", "pathway": "with_pathway", "flink": "with_flink"}
TITLES = {"bytewax": "Bytewax", "pathway": "Pathway", "flink": "PyFlink (thread mode)"}
ASKED = {"bytewax": 3.0, "pathway": 5.0, "flink": 20.0}

CHECKED = 20_000
REPEATABLE = frozenset({0, 1, 2})
"""Queries that look at no event time: the same events may come again, so that a fast run takes long enough."""
PATIENCE = 200
TRIES = 3
LONG_ENOUGH = {"flink": 5.0}
"""How much longer (seconds) the larger size has to take; a job of Flink needs seconds to start, now more, now fewer."""


def give_up(*_: Any) -> None:
    raise Failed(f"not finished within {PATIENCE} s")


def seconds_of(module: Any, number: int, count: int) -> tuple[float, float]:
    """Seconds of wall and of CPU time for a query over so many events, its outputs thrown away."""
    gc.collect()
    cpu, wall = busy_seconds(), time.perf_counter()
    module.run(number, count, False)
    wall, cpu = time.perf_counter() - wall, busy_seconds() - cpu
    return wall, cpu


def time_query(module: Any, number: int, size: int, enough: float) -> tuple[float, float]:
    """Events a second by wall and by CPU time: the slope between a size and four times that."""
    check(number, CHECKED, module.run(number, CHECKED, True))
    most = 16 * LONGEST if number in REPEATABLE else LONGEST
    seconds_of(module, number, 1_000)
    # By CPU time: on a busy machine a short run may take long.
    _, short = seconds_of(module, number, size)
    large = 4 * size
    while large < most and min(seconds_of(module, number, large)[1] for _ in range(2)) < short + enough:
        large = min(4 * large, most)
    small = large // 4
    counts: list[int] = []
    walls: list[float] = []
    cpus: list[float] = []
    for _ in range(TRIES):
        for count in (small, large):
            wall, cpu = seconds_of(module, number, count)
            counts.append(count)
            walls.append(wall)
            cpus.append(cpu)
        if sum(walls) > PATIENCE / 4:
            break
    turn = Turn(counts, walls, cpus)
    return turn.rate, turn.rate_by_cpu


def measure(way: str, size: int, core: int, numbers: list[int]) -> dict[str, Any]:
    """By query, its rates, or why there is none. The process keeps to one core, whatever threads it starts."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {core})
    logging.disable(logging.ERROR)
    module = importlib.import_module(f"tests.benchmarks.stream.{WAYS[way]}")
    made(LONGEST)
    stamps(LONGEST)
    signal.signal(signal.SIGALRM, give_up)
    found: dict[str, Any] = {}
    for number in numbers:
        if number not in getattr(module, "QUERIES", NUMBERS):
            found[str(number)] = "cannot be expressed"
            continue
        signal.alarm(PATIENCE)
        try:
            found[str(number)] = time_query(module, number, size, LONG_ENOUGH.get(way, 0.6))
        except Exception as error:  # a query that fails is a result; the others still run
            found[str(number)] = f"{type(error).__name__}: {error}"[:200]
        finally:
            signal.alarm(0)
    return {"rates": found}


def run_sage(_: int, **arguments: Any) -> dict[str, Any]:
    return measure(OURS, **arguments)


def run_bytewax(_: int, **arguments: Any) -> dict[str, Any]:
    return measure("bytewax", **arguments)


def run_pathway(_: int, **arguments: Any) -> dict[str, Any]:
    return measure("pathway", **arguments)


def run_flink(_: int, **arguments: Any) -> dict[str, Any]:
    return measure("flink", **arguments)


SIZES = {OURS: 100_000, "bytewax": 50_000, "pathway": 20_000, "flink": 50_000}
"""What a way begins with (count); a slow one gets less, since only slopes are compared."""


def bench(settings: Settings) -> list[Row]:
    """A row for each query and peer, and the geometric mean against each."""
    rates: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    missing: dict[str, str] = {}
    for turn in range(settings.pick(1, 3)):
        core = idlest_core()
        for way in WAYS:
            if way in missing:
                continue
            started = time.monotonic()
            size = SIZES[way] // settings.pick(2, 1)
            try:
                found = take_turn(MODULE, way, size=size, core=core, numbers=list(NUMBERS), timeout=1_500)
            except Failed as error:
                missing[way] = str(error)
                settings.say(f"{NAME}: {way}: failed: {error}")
                continue
            rates[way].append(found["rates"])
            settings.say(f"{NAME}: round {turn + 1} {way}: {time.monotonic() - started:.0f} s")
    if OURS in missing:
        return [Row(NAME, "all queries", None, 3.0, note=missing[OURS])]
    rows = []
    for peer in ASKED:
        rows += against(peer, rates, missing.get(peer))
    return rows


def against(peer: str, rates: dict[str, list[dict[str, Any]]], missing: str | None) -> list[Row]:
    """The rows against one peer."""
    if missing is not None:
        return [Row(NAME, f"against {TITLES[peer]}", None, ASKED[peer], note=missing)]
    rows, ratios, by_cpu, slower = [], [], [], []
    for number in NUMBERS:
        ours, theirs = ([found[str(number)] for found in rates[way]] for way in (OURS, peer))
        what = f"Q{number} against {TITLES[peer]}"
        failed = failure(ours, theirs)
        if failed is not None:
            rows.append(Row(NAME, what, None, None if failed.startswith("the peer") else 1.0, note=failed))
            continue
        wall, cpu = ratio(ours, theirs, 0), ratio(ours, theirs, 1)
        mine, other = (statistics.median(rate[0] for rate in side) for side in (ours, theirs))
        note = f"{human(mine)}/s against {human(other)}/s; {cpu:.2f} by CPU time"
        rows.append(Row(NAME, what, wall, 1.0, note=note))
        ratios.append(wall)
        by_cpu.append(cpu)
        slower += [f"Q{number}"] if wall < 1 else []
    note = f"over {len(ratios)} queries" + (f"; slower on {' '.join(slower)}" if slower else "; slower on none")
    if by_cpu:
        note += f"; {mean(by_cpu):.2f} by CPU time, slower on {sum(cpu < 1 for cpu in by_cpu) or 'none'}"
    return [*rows, Row(NAME, f"geometric mean against {TITLES[peer]}", mean(ratios), ASKED[peer], note=note)]


def mean(ratios: list[float]) -> float | None:
    """The geometric mean; None of nothing."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def failure(ours: list[Any], theirs: list[Any]) -> str | None:
    """What went wrong on either side; None if nothing did."""
    for side, found in (("ours", ours), ("the peer", theirs)):
        for rate in found:
            if isinstance(rate, str):
                return f"{side}: {rate}"
    return None


def ratio(ours: list[Any], theirs: list[Any], clock: int) -> float:
    """The median of the ratios of the rounds, by one of the two clocks."""
    return statistics.median(mine[clock] / other[clock] for mine, other in zip(ours, theirs, strict=True))
