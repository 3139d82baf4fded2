"""The short form of ``make chaos``: real jobs, killed at random moments, write what an uninterrupted run writes."""

from __future__ import annotations

import os

import pytest

from tests.recovery.chaos import chaos


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="worker processes are looked for in /proc")
def test_jobs_that_are_killed_at_random_moments_lose_nothing_and_write_nothing_twice() -> None:
    tallies = chaos(kills=6, names=["sums", "timers"], seed=6, each=3, side_by_side=2)
    assert [tally.runs - tally.equal for tally in tallies.values()] == [0, 0]
