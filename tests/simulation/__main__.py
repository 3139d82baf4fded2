"""Many seeds: ``python -m tests.simulation --seeds 10000``, or ``make simulate SEEDS=10000``.

First, bugs are planted, to see that the simulator finds them.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from sage.runners.simulation.simulator import Outcome, length, simulate, uninterrupted
from tests.simulation import file_systems, kafka
from tests.simulation.pipelines import KEEP_STATE, MORE, PIPELINES, scenario
from tests.simulation.planted import PLANTED

ALL = {**PIPELINES, **MORE}
JOBS = tuple((name, "memory") for name in ALL) + tuple((name, "rocksdb") for name in KEEP_STATE)
_jobs = {}


def run(seed: int) -> tuple[int, list[str], str]:
    """One seed on one of the jobs: the crashes there were, and what is wrong; empty for nothing."""
    name, backend = chosen = JOBS[seed % len(JOBS)]
    if chosen not in _jobs:
        job = scenario(ALL[name], state_backend=backend)
        _jobs[chosen] = job, uninterrupted(job), length(job)
    job, expected, horizon = _jobs[chosen]
    outcome = simulate(job, seed, horizon)
    return seed, [fate.name for fate in outcome.fates], wrong(outcome, expected)


def wrong(outcome: Outcome, expected: Outcome) -> str:
    """What a run shows that it should not; empty for nothing."""
    if outcome.error is not None:
        return f"{type(outcome.error).__name__}: {outcome.error}"
    if outcome.output != expected.output:
        return f"lost {expected.output - outcome.output}, too many {outcome.output - expected.output}"
    return ""


def _results(seeds: range, processes: int) -> Iterator[tuple[int, list[str], str]]:
    if processes == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=20)


def _plant() -> int:
    """Prints which bugs are found, and by which seed; gives how many are not."""
    missed = 0
    for bug in PLANTED:
        seed = bug.found_at()
        missed += seed is None
        print(f"planted: {bug.what}: {'NOT FOUND' if seed is None else f'found at seed {seed}'}", flush=True)
    return missed


@file_systems.in_place()
@kafka.in_place()
def main() -> int:
    """Runs the seeds, and prints each violation with the line that shows it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them (%(default)s)")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) // 2), metavar="N")
    args = parser.parse_args()
    logging.getLogger("sage").setLevel(logging.CRITICAL)
    missed = 0 if args.first else _plant()
    started, violations, crashes = time.monotonic(), 0, Counter[str]()
    for done, (seed, fates, problem) in enumerate(
        _results(range(args.first, args.first + args.seeds), args.processes), 1
    ):
        crashes.update(fates)
        if problem:
            violations += 1
            name, backend = JOBS[seed % len(JOBS)]
            print(f"seed {seed} ({name}, state in {backend}): {problem[:400]}")
            print(f"  again: python -m tests.simulation --seeds 1 --first {seed}")
        if done % 500 == 0:
            print(f"{done}/{args.seeds} seeds, {violations} violations, {time.monotonic() - started:.0f} s", flush=True)
    what = ", ".join(f"{count} x {name}" for name, count in sorted(crashes.items()))
    print(f"{args.seeds} seeds over {', '.join(map('/'.join, JOBS))}: {violations} violations ({what})")
    return 1 if violations or missed else 0


if __name__ == "__main__":
    sys.exit(main())
