"""Window assignment in whole microseconds gives what Beam's window functions give."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, SlidingWindows, WindowFn
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sage.runners.engine.core.windows import assigner

MICROS = st.integers(-(10**13), 10**13)
SECONDS = st.integers(1, 5_000).map(lambda tenths: tenths / 10)


def check(fn: Any, stamps: list[int]) -> None:
    assign = assigner(fn)
    for micros in [*stamps, *stamps]:  # twice: the second time from memory
        stamp = Timestamp(micros=micros)
        assert list(assign(stamp, "x")) == list(fn.assign(WindowFn.AssignContext(stamp, "x")))


@given(st.lists(MICROS), SECONDS, st.integers(0, 10_000).map(lambda ms: ms / 1_000))
def test_fixed(stamps: list[int], size: float, offset: float) -> None:
    check(FixedWindows(size, offset), stamps)


@given(st.lists(MICROS, max_size=5), SECONDS, SECONDS, st.integers(0, 10_000).map(lambda ms: ms / 1_000))
def test_sliding(stamps: list[int], size: float, period: float, offset: float) -> None:
    period = max(period, size / 50)
    check(SlidingWindows(size, period, offset), stamps)


@given(st.lists(MICROS), SECONDS)
def test_sessions_and_the_global_window(stamps: list[int], gap: float) -> None:
    check(Sessions(gap), stamps)
    check(GlobalWindows(), stamps)
