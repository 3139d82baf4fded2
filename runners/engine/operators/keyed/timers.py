"""Timers of a keyed step: set, cleared and fired in order of time."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.core.blocks import MAX_MICROS, NO_FIRING

_STALE_KEPT = 1000


@dataclass(slots=True)
class Timer:
    """A timer that is set; whoever has it leaves it as it is.

    ``fire`` is in the timer's own time domain, ``hold`` in event time; both in microseconds. Settings are numbered by
    the queue that they are in.
    """

    spec: Any
    key: Any
    window: Any
    tag: str
    fire: int
    hold: int
    pane: PaneInfo
    number: int = field(default=0, compare=False)


class TimerChanges(NamedTuple):
    """Settings of timers; a name is (family, identity of the key, window, tag).

    Attributes:
        gone: the names of timers that are set no more.
        names: those of timers that are set, in the order in which they were.
        timers: the settings of these.
    """

    gone: Sequence[Any]
    names: Sequence[Any]
    timers: Sequence[Timer]


class TimerQueue:
    """The timers of one time domain.

    State: the current setting of each timer (family, key, window, tag) in order of setting, and heaps of settings by
    when they fire and by what they hold, in which a stale one is recognised by its number and skipped; what the next
    number was when `changes` was asked, and which timers are set no more since then, if that is `tracked`. Timers of
    event time hold until they fire, so that one heap has both.

    Args:
        tracked: whether `changes` will be asked.
        by_clock: whether the timers are of processing time.
    """

    def __init__(self, tracked: bool = False, *, by_clock: bool) -> None:
        self._current: dict[Any, Timer] = {}
        self._heap: list[tuple[int, int, Any]] = []
        self._holds: list[tuple[int, int, Any]] | None = [] if by_clock else None
        self._next = 0
        self._snapshotted = 0
        self._gone: set[Any] | None = set() if tracked else None

    def __len__(self) -> int:
        return len(self._current)

    def set(self, identity: Any, timer: Timer) -> None:
        """Sets a timer, in place of its earlier setting."""
        number = timer.number = self._next
        self._next = number + 1
        self._current.pop(identity, None)  # its place is the last
        self._current[identity] = timer
        heapq.heappush(self._heap, (timer.fire, number, identity))
        if self._holds is not None:
            heapq.heappush(self._holds, (timer.hold, number, identity))
        if len(self._heap) > 2 * len(self._current) + _STALE_KEPT:
            self._rebuild()

    def set_all(self, timers: Mapping[Any, Timer]) -> None:
        """Sets many timers, in their order."""
        for identity in self._current.keys() & timers.keys():
            del self._current[identity]
        for timer in timers.values():
            timer.number = self._next
            self._next += 1
        self._current.update(timers)
        self._rebuild()

    def clear(self, identity: Any) -> None:
        """Forgets a timer."""
        if self._current.pop(identity, None) is not None and self._gone is not None:
            self._gone.add(identity)

    def drop_all(self) -> None:
        """Forgets all timers."""
        if self._gone is not None:
            self._gone.update(self._current)
        self._current.clear()
        self._rebuild()

    def close(self) -> None:
        """Lets go of all timers; nothing is asked of the queue any more."""
        self._current.clear()
        self._heap.clear()
        self._holds = None
        self._gone = None

    def _rebuild(self) -> None:
        """Makes the heaps anew, of what is set."""
        settings = self._current.items()
        self._heap = [(timer.fire, timer.number, name) for name, timer in settings]
        heapq.heapify(self._heap)
        if self._holds is not None:
            self._holds = [(timer.hold, timer.number, name) for name, timer in settings]
            heapq.heapify(self._holds)

    def _prune(self, heap: list[tuple[int, int, Any]]) -> None:
        """Takes stale settings from the top of a heap, which has more than there are timers."""
        current = self._current
        while len(heap) > len(current):
            _, number, identity = heap[0]
            setting = current.get(identity)
            if setting is not None and setting.number == number:
                return
            heapq.heappop(heap)

    def next_fire(self) -> int | None:
        """When the earliest timer fires (microseconds)."""
        heap = self._heap
        if len(heap) > len(self._current):
            self._prune(heap)
        return heap[0][0] if heap else None

    def hold(self) -> int:
        """The earliest event time (microseconds) that a pending timer may put out."""
        if self._holds is None:
            due = self.next_fire()
            return MAX_MICROS if due is None else due
        self._prune(self._holds)
        return self._holds[0][0] if self._holds else MAX_MICROS

    def pop_due(self, now: int) -> Timer | None:
        """Takes the earliest timer with ``fire <= now``."""
        due = self.next_fire()
        if due is None or due > now:
            return None
        _, _, identity = heapq.heappop(self._heap)
        if self._gone is not None:
            self._gone.add(identity)
        return self._current.pop(identity)

    def changes(self, whole: bool) -> TimerChanges:
        """The settings that changed since this was asked before, or all there are, in the order they were made."""
        current = self._current
        gone = [] if whole or not self._gone else [name for name in self._gone if name not in current]
        if self._gone:
            self._gone.clear()
        first, self._snapshotted = 0 if whole else self._snapshotted, self._next
        # They are in order of setting, and so those that were set since then are the last: no more than were numbered.
        names = list(islice(reversed(current), self._next - first))[::-1]
        timers = list(islice(reversed(current.values()), self._next - first))[::-1]
        first = bisect.bisect_left(timers, first, key=attrgetter("number"))
        return TimerChanges(gone, names[first:], timers[first:])


class TimerHandle(userstate.BaseTimer):
    """What user code holds to set or clear one timer of the key and window at hand.

    A handle may serve one element after another; whoever hands it out says by its attributes which.

    Args:
        queue: where the timer is set.
        family: Beam's spec of it.
        identify: gives the identity of a key.

    Attributes:
        key: of the element.
        window: the one of the call.
        micros: the event time of the element (microseconds), which a timer of processing time holds the watermark at.
        pane: the element's.
    """

    def __init__(self, queue: TimerQueue, family: Any, identify: Callable[[Any], Any]) -> None:
        self._queue = queue
        self._spec = family
        self._identify = identify
        self._event_time = TimeDomain.is_event_time(family.time_domain)
        self.key: Any = None
        self.window: Any = None
        self.micros = 0
        self.pane = NO_FIRING

    def set(self, timestamp: Any, dynamic_timer_tag: str = "") -> None:
        fire = Timestamp.of(timestamp).micros
        if self._event_time:
            hold = fire
        else:
            # The hold keeps the window from being over before the timer fires; the global one never is.
            hold = MAX_MICROS if isinstance(self.window, GlobalWindow) else self.micros
        timer = Timer(self._spec, self.key, self.window, dynamic_timer_tag, fire, hold, self.pane)
        self._queue.set(self._name(dynamic_timer_tag), timer)

    def clear(self, dynamic_timer_tag: str = "") -> None:
        self._queue.clear(self._name(dynamic_timer_tag))

    def _name(self, tag: str) -> tuple[Any, ...]:
        return (self._spec.name, self._identify(self.key), self.window, tag)
