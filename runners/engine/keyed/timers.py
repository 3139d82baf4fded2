"""Timers of a keyed step: set, cleared and fired in order of time."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.blocks import MAX_MICROS


@dataclass(frozen=True)
class Timer:
    """A timer that is set.

    ``fire`` is in the timer's own time domain, ``hold`` in event time; both in microseconds.
    """

    spec: Any
    key: Any
    window: Any
    tag: str
    fire: int
    hold: int
    pane: PaneInfo


class TimerQueue:
    """The timers of one time domain.

    State: the current setting of each timer (family, key, window, tag), and a heap of settings in which a stale
    one is recognised by its number and skipped; which timers changed since `changes` was asked, if that is `tracked`.
    """

    def __init__(self, tracked: bool = False) -> None:
        self._current: dict[Any, tuple[int, Timer]] = {}
        self._heap: list[tuple[int, int, Any]] = []
        self._holds: list[tuple[int, int, Any]] = []
        self._numbers = itertools.count()
        self._changed: set[Any] | None = set() if tracked else None

    def __len__(self) -> int:
        return len(self._current)

    def set(self, identity: Any, timer: Timer) -> None:
        """Sets a timer, in place of its earlier setting."""
        number = next(self._numbers)
        self._current[identity] = (number, timer)
        heapq.heappush(self._heap, (timer.fire, number, identity))
        heapq.heappush(self._holds, (timer.hold, number, identity))
        if self._changed is not None:
            self._changed.add(identity)

    def clear(self, identity: Any) -> None:
        """Forgets a timer."""
        if self._current.pop(identity, None) is not None and self._changed is not None:
            self._changed.add(identity)

    def drop_all(self) -> None:
        """Forgets all timers."""
        if self._changed is not None:
            self._changed.update(self._current)
        self._current.clear()
        self._heap.clear()
        self._holds.clear()

    def _rebuild(self) -> None:
        """Makes the heaps anew, of what is set."""
        settings = [(number, name, timer) for name, (number, timer) in self._current.items()]
        self._heap = [(timer.fire, number, name) for number, name, timer in settings]
        self._holds = [(timer.hold, number, name) for number, name, timer in settings]
        heapq.heapify(self._heap)
        heapq.heapify(self._holds)

    def _prune(self, heap: list[tuple[int, int, Any]]) -> None:
        current = self._current
        while heap:
            _, number, identity = heap[0]
            setting = current.get(identity)
            if setting is not None and setting[0] == number:
                return
            heapq.heappop(heap)

    def next_fire(self) -> int | None:
        """When the earliest timer fires (microseconds)."""
        self._prune(self._heap)
        return self._heap[0][0] if self._heap else None

    def hold(self) -> int:
        """The earliest event time (microseconds) that a pending timer may put out."""
        self._prune(self._holds)
        return self._holds[0][0] if self._holds else MAX_MICROS

    def pop_due(self, now: int) -> Timer | None:
        """Takes the earliest timer with ``fire <= now``."""
        due = self.next_fire()
        if due is None or due > now:
            return None
        _, _, identity = heapq.heappop(self._heap)
        if self._changed is not None:
            self._changed.add(identity)
        return self._current.pop(identity)[1]

    def changes(self, whole: bool) -> list[tuple[Any, Timer | None]]:
        """The settings that changed since this was asked before, or all there are, in the order they were made.

        A timer that is set no more is None.
        """
        current, changed = self._current, self._changed or set()
        names: Any = current if whole else changed & current.keys()
        gone = [] if whole else [(name, None) for name in changed if name not in current]
        changed.clear()
        return [*gone, *((name, current[name][1]) for name in sorted(names, key=lambda name: current[name][0]))]


class TimerHandle(userstate.BaseTimer):
    """What user code holds to set or clear one timer of the current key and window."""

    def __init__(self, queue: TimerQueue, family: Any, place: tuple[Any, Any, Any], hold: int, pane: PaneInfo) -> None:
        self._queue = queue
        self._spec = family
        self._identity, self._key, self._window = place
        self._hold = hold
        self._pane = pane

    def at(self, micros: int, pane: PaneInfo) -> None:
        """The element at hand: a processing-time timer holds the watermark at its timestamp (microseconds)."""
        self._hold = micros
        self._pane = pane

    def set(self, timestamp: Any, dynamic_timer_tag: str = "") -> None:
        fire = Timestamp.of(timestamp).micros
        if TimeDomain.is_event_time(self._spec.time_domain):
            hold = fire
        else:
            # The hold keeps the window from being over before the timer fires; the global one never is.
            hold = MAX_MICROS if isinstance(self._window, GlobalWindow) else self._hold
        timer = Timer(self._spec, self._key, self._window, dynamic_timer_tag, fire, hold, self._pane)
        self._queue.set(self._name(dynamic_timer_tag), timer)

    def clear(self, dynamic_timer_tag: str = "") -> None:
        self._queue.clear(self._name(dynamic_timer_tag))

    def _name(self, tag: str) -> tuple[Any, ...]:
        return (self._spec.name, self._identity, self._window, tag)
