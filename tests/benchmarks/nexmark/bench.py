"""Nexmark in batch: events a second of each query, ours against FnApiRunner."""

from __future__ import annotations

import gc
import math
import signal
import statistics
from typing import Any

from tests.benchmarks import beams
from tests.benchmarks.measure import OURS, Failed, Row, Settings, Turn, human, rounds
from tests.benchmarks.nexmark.model import Config
from tests.benchmarks.nexmark.queries import QUERIES
from tests.benchmarks.nexmark.run import run_query
from tests.benchmarks.nexmark.source import made_before

NAME = "nexmark"
MODULE = "nexmark.bench"
PATIENCE = 90
SOON_DONE = 3.0
CLEARLY_LONGER = 0.7
# FnApiRunner asks its worker to merge the windows of each auction, a thousandth of a second and more each time.
SLOW_FOR_FNAPI = (4, 6, 9)


def sizes(way: str, number: int, size: int) -> tuple[int, int]:
    """The two sizes of a query: a slow peer gets smaller ones, since only slopes are compared."""
    if way == "fnapi":
        size = size // 10 if number in SLOW_FOR_FNAPI else size // 2
    return size // 4, size


def give_up(*_: Any) -> None:
    raise Failed(f"not finished within {PATIENCE} s")


def long_enough(way: str, number: int, small: int, large: int, config: Config) -> int:
    """A large size that takes clearly longer than the small one: a fast query needs more events to tell."""
    most = 16 * large
    short, _ = run_query(number, beams.runner(way), small, config)
    while large < most:
        long, _ = run_query(number, beams.runner(way), large, config)
        if long > short + CLEARLY_LONGER:
            break
        large *= 4
    return large


def time_query(way: str, number: int, small: int, large: int, config: Config) -> tuple[float, float]:
    """Events a second by wall and by CPU time; a query that is soon done gets a second try."""
    run_query(number, beams.runner(way), 1_000, config)
    large = long_enough(way, number, small, large, config)
    counts: list[int] = []
    walls: list[float] = []
    cpus: list[float] = []
    while len(counts) < 4 and sum(walls) < SOON_DONE:
        for count in (small, large):
            gc.collect()
            wall, cpu = run_query(number, beams.runner(way), count, config)
            walls.append(wall)
            cpus.append(cpu)
            counts.append(count)
    turn = Turn(counts, walls, cpus)
    return turn.rate, turn.rate_by_cpu


def measure(way: str, size: int, numbers: list[int]) -> dict[str, Any]:
    """Events a second of each query, or what went wrong with it."""
    config = Config()
    for count in sorted({count for number in numbers for count in sizes(way, number, size)}):
        made_before(count, config)
    signal.signal(signal.SIGALRM, give_up)
    found: dict[str, tuple[float, float] | str] = {}
    for number in numbers:
        small, large = sizes(way, number, size)
        signal.alarm(PATIENCE)
        try:
            found[str(number)] = time_query(way, number, small, large, config)
        except Exception as error:  # a query that fails is a result; the others still run
            found[str(number)] = f"{type(error).__name__}: {error}"[:200]
        finally:
            signal.alarm(0)
    return {"rates": found}


def run_sage(size: int, numbers: list[int]) -> dict[str, Any]:
    return measure("sage", size, numbers)


def run_fnapi(size: int, numbers: list[int]) -> dict[str, Any]:
    return measure("fnapi", size, numbers)


def bench(settings: Settings) -> list[Row]:
    """A row for each query and the geometric mean over those that FnApiRunner can do."""
    size = settings.pick(20_000, 100_000)
    turns = rounds(
        settings, MODULE, {OURS: (size,), "fnapi": (size,)}, settings.pick(1, 3), numbers=list(QUERIES), timeout=900
    )
    rates: dict[str, list[dict[str, Any]]] = {}
    for way, side in turns.items():
        if isinstance(side, Failed):
            return [Row(NAME, "all queries", None, 3.0, note=f"{way}: {side}")]
        rates[way] = [turn.extra["rates"] for turn in side]
    rows, ratios, wrong = [], [], []
    for number in QUERIES:
        ours, theirs = ([found[str(number)] for found in rates[way]] for way in (OURS, "fnapi"))
        row = one_query(number, ours, theirs)
        rows.append(row)
        if row.value is not None:
            ratios.append(row.value)
        if any(isinstance(rate, str) for rate in ours):
            wrong.append(f"Q{number}")
    mean = math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None
    right = f"right on {len(QUERIES) - len(wrong)} of {len(QUERIES)}" + (f", not on {' '.join(wrong)}" if wrong else "")
    note = f"over the {len(ratios)} queries that both can do; {right}"
    return [*rows, Row(NAME, "geometric mean against FnApiRunner", None if wrong else mean, 3.0, note=note)]


def one_query(number: int, ours: list[Any], theirs: list[Any]) -> Row:
    """The row of a query, from its rates or failures in the rounds."""
    what = f"Q{number} against FnApiRunner"
    failed = next((rate for rate in ours if isinstance(rate, str)), None)
    if failed is not None:
        return Row(NAME, what, None, note=f"ours: {failed}")
    rate = f"{human(statistics.median(wall for wall, _ in ours))}/s"
    failed = next((rate for rate in theirs if isinstance(rate, str)), None)
    if failed is not None:
        return Row(NAME, what, None, note=f"right at {rate}; FnApiRunner: {failed}")
    by_wall, by_cpu = (
        statistics.median(mine[clock] / other[clock] for mine, other in zip(ours, theirs, strict=True))
        for clock in (0, 1)
    )
    their_rate = f"{human(statistics.median(wall for wall, _ in theirs))}/s"
    return Row(NAME, what, by_wall, note=f"{rate} against {their_rate}; {by_cpu:.2f} by CPU time")
