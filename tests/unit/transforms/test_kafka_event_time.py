"""How far the timestamps of records move event time on, when some of them are ahead of the clock."""

from __future__ import annotations

import pytest

from sage.transforms.io.kafka.event_time import BEFORE_ALL, EventTime

NOW, YEAR_2128 = 1_800_000_000_000, 4_985_000_000_000


def test_the_highest_timestamp_counts() -> None:
    time = EventTime(lead_ms=0)
    assert time.newest(NOW) == BEFORE_ALL
    time.observe([NOW - 5, NOW - 1, NOW - 3], NOW)
    time.observe([NOW - 9], NOW)
    assert time.newest(NOW) == NOW - 1


@pytest.mark.parametrize("alone", [True, False])
def test_a_record_of_another_century_moves_nothing_in_the_middle_of_a_backlog(alone: bool) -> None:
    last_week = NOW - 7 * 86_400_000
    time = EventTime(lead_ms=0)
    time.observe([last_week], NOW)
    time.observe([YEAR_2128] if alone else [last_week + 1, YEAR_2128, last_week + 2], NOW)
    assert time.newest(NOW + 60_000) == last_week + 2 * (not alone)


def test_a_producer_whose_clock_is_ahead_moves_time_on_when_the_clock_has_come_there() -> None:
    time = EventTime(lead_ms=0)
    for second in range(5):
        time.observe([NOW + second * 1_000 + 5_000], NOW + second * 1_000)
    assert time.newest(NOW + 4_999) == BEFORE_ALL
    assert time.newest(NOW + 5_000) == NOW + 5_000
    assert time.newest(NOW + 8_500) == NOW + 8_000
    assert time.newest(NOW + 60_000) == NOW + 9_000


def test_how_far_ahead_counts_at_once_can_be_set() -> None:
    near, any_time = EventTime(lead_ms=10_000), EventTime(lead_ms=None)
    for time in (near, any_time):
        time.observe([NOW + 9_000, YEAR_2128], NOW)
    assert near.newest(NOW) == NOW + 9_000
    assert any_time.newest(NOW) == YEAR_2128


def test_what_is_remembered_has_an_end() -> None:
    time = EventTime(lead_ms=0)
    for ahead in range(10_000, 0, -1):
        time.observe([NOW + ahead], NOW)
    assert len(time._ahead) <= 1_000
    assert time.newest(NOW + 3) == NOW + 3
