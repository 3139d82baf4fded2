"""A queue of timers: in order of time, each as it was set last."""

from __future__ import annotations

from typing import Any

from sage.runners.engine.core.blocks import MAX_MICROS, NO_FIRING
from sage.runners.engine.operators.keyed.timers import Timer, TimerQueue


def timer(fire: int, hold: int | None = None) -> Timer:
    return Timer(None, "key", None, "", fire, fire if hold is None else hold, NO_FIRING)


def fired(queue: TimerQueue, now: int) -> list[int]:
    found: list[int] = []
    while (due := queue.pop_due(now)) is not None:
        found.append(due.fire)
    return found


def test_the_last_setting_counts() -> None:
    queue = TimerQueue(by_clock=False)
    for name, fire in [("a", 5), ("b", 2), ("a", 1), ("b", 7), ("c", 3), ("d", 4)]:
        queue.set(name, timer(fire))
    queue.clear("c")
    assert queue.next_fire() == queue.hold() == 1
    assert fired(queue, 6) == [1, 4]
    assert (queue.next_fire(), queue.hold(), len(queue)) == (7, 7, 1)
    assert fired(queue, 7) == [7]
    assert (queue.next_fire(), queue.hold()) == (None, MAX_MICROS)


def test_a_timer_of_processing_time_holds_until_it_fires() -> None:
    queue = TimerQueue(by_clock=True)
    queue.set("a", timer(10, hold=3))
    queue.set("b", timer(20, hold=1))
    queue.set("c", timer(30, hold=2))
    assert queue.hold() == 1
    queue.clear("b")
    assert queue.hold() == 2
    assert fired(queue, 10) == [10]
    assert queue.hold() == 2
    queue.set("c", timer(30, hold=8))
    assert queue.hold() == 8
    assert fired(queue, 30) == [30]
    assert queue.hold() == MAX_MICROS


def test_a_timer_that_is_put_off_again_and_again_takes_the_room_of_a_few() -> None:
    queue: Any = TimerQueue(by_clock=True)
    for fire in range(100_000):
        queue.set(fire % 3, timer(fire))
    assert len(queue._heap) < 2_000
    assert len(queue._holds) < 2_000
    assert fired(queue, MAX_MICROS) == [99_997, 99_998, 99_999]
