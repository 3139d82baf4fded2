"""``python -m tests.benchmarks.alignment``: what watermark alignment saves in a join's state, and what it costs.

State: the most rows that a join of two streams keeps, of which one is read ten times as fast as the other in event
time, against two that are read alike; on a virtual clock, so that the figures are the same everywhere. Cost: the CPU
time of reading even streams with alignment, against without; the least of several rounds of each, taken by turns.
"""

from __future__ import annotations

import time

from tests.models.feeds import SECOND, Feed, Uneven, Workers, dataflow, goes_on, most_held, rows_read

ROWS = 30_000
COST_ROWS = 2_000_000
ROUNDS = 5
DRIFT_MICROS = 5 * SECOND


def state() -> list[tuple[str, float, float]]:
    """For one worker and two: the rows kept with the fast stream over those of even streams, with alignment and
    without.
    """
    found = []
    for name, most in (("one worker", _one_worker), ("two workers", _two_workers)):
        even = most(10, DRIFT_MICROS)
        found.append((name, most(100, DRIFT_MICROS) / even, most(100, None) / even))
    return found


def _one_worker(fast: int, drift_micros: int | None) -> int:
    return most_held(dataflow(Feed("fast", None, fast), Feed("slow", None, 10), drift_micros=drift_micros), ROWS)


def _two_workers(fast: int, drift_micros: int | None) -> int:
    return Workers(2, 1, Uneven("a", None, fast, splits=2), drift_micros=drift_micros).most_held(ROWS)


def cost() -> float:
    """The CPU time of reading four splits of each of two streams with alignment, over that without."""
    spent = {DRIFT_MICROS: float("inf"), None: float("inf")}
    for _ in range(ROUNDS):
        for drift_micros in spent:
            flow = dataflow(Feed("a", None, 1_000, 4), Feed("b", None, 1_000, 4), drift_micros=drift_micros)
            flow.open()
            began = time.process_time()
            while rows_read(flow) < COST_ROWS and goes_on(flow):
                pass
            spent[drift_micros] = min(spent[drift_micros], time.process_time() - began)
            flow.close()
    return spent[DRIFT_MICROS] / spent[None]


def main() -> None:
    """Print the figures."""
    for name, aligned, apart in state():
        print(f"{name}: rows kept with a stream ten times as fast, over even: {aligned:.2f}; not aligned {apart:.1f}")
    print(f"CPU time of even streams with alignment, over without: {cost():.3f}")


if __name__ == "__main__":
    main()
