"""Panes under any trigger: what a key's windows hold, and when they put it out.

Beam's trigger functions decide; what they remember is kept here, one plain object for each window. The rules are
those of Beam's ``GeneralTriggerDriver``: elements are added window by window, merging windows merge before that,
and a trigger is asked once for each window that got elements and once for each timer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.transforms.combiners import CountCombineFn
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import AccumulationMode
from apache_beam.transforms.window import TimestampCombiner
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming, WindowedValue

from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS
from sage.runners.engine.operators.base.context import Clock
from sage.runners.engine.operators.grouping.merging import merged_windows
from sage.runners.engine.operators.grouping.pane_contents import NOTHING, BufferedValues

Element = tuple[Any, Timestamp]


class WindowState:
    """One window of one key.

    State: what is held of the elements that no pane has taken for good, how many of them no pane has had, the watermark
    hold, whether the trigger is finished, how many panes there were (and how many of them on time or late), what the
    trigger's parts remember by tag, and their timers by name and time domain (microseconds).

    Args:
        key: whose window it is.
        window: the window.
        closes: when the window is over for good, once the watermark has passed that (microseconds).
    """

    __slots__ = ("closes", "contents", "done", "fresh", "hold", "index", "key", "settled", "tags", "timers", "window")

    def __init__(self, key: KeyWindows, window: Any, closes: int) -> None:
        self.key = key
        self.window = window
        self.closes = closes
        self.contents: Any = NOTHING
        self.fresh = 0
        self.hold: Timestamp | None = None
        self.done = False
        self.index = 0
        self.settled = 0
        self.tags: dict[str, Any] = {}
        self.timers: dict[tuple[str, str], int] = {}

    def clock_timer(self) -> int | None:
        """When the first processing-time timer is due (microseconds)."""
        return min((at for (_, domain), at in self.timers.items() if domain == TimeDomain.REAL_TIME), default=None)

    def next_event(self) -> int:
        """The event time (microseconds) at which there is something to do: a timer, or the end for good."""
        at = min(self.closes + 1, MAX_MICROS)
        for (_, domain), timer in self.timers.items():
            if domain == TimeDomain.WATERMARK and timer < at:
                at = timer
        return at

    def earliest(self) -> int | None:
        """The earliest event time (microseconds) that a pane may still carry."""
        return None if self.hold is None else max(MIN_MICROS, int(self.hold.micros) - 1)


class _Context:
    """What a trigger function sees of a window; Beam's ``TriggerContext``."""

    def __init__(self, state: WindowState, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def get_current_time(self) -> float:
        return self._clock.now_micros() / 1e6

    def set_timer(self, name: str, time_domain: str, timestamp: Any) -> None:
        self._state.timers[name, time_domain] = int(Timestamp.of(timestamp).micros)

    def clear_timer(self, name: str, time_domain: str) -> None:
        self._state.timers.pop((name, time_domain), None)

    def add_state(self, tag: Any, value: Any) -> None:
        tags = self._state.tags
        if _counts(tag):
            tags[tag.tag] = tags.get(tag.tag, 0) + 1
            return
        contents = tags.setdefault(tag.tag, [])
        if hasattr(tag, "combine_fn") or value not in contents:  # the others are sets
            contents.append(value)

    def get_state(self, tag: Any) -> Any:
        contents = self._state.tags.get(tag.tag)
        if _counts(tag):
            return contents or 0
        combine = getattr(tag, "combine_fn", None)
        return combine.apply(contents or []) if combine is not None else set(contents or [])

    def clear_state(self, tag: Any) -> None:
        self._state.tags.pop(tag.tag, None)


def _counts(tag: Any) -> bool:
    return type(getattr(tag, "combine_fn", None)) is CountCombineFn


class KeyWindows:
    """State: the windows of one key.

    Args:
        identity: of the key.
        key: the key.
    """

    __slots__ = ("identity", "key", "windows")

    def __init__(self, identity: Any = None, key: Any = None) -> None:
        self.identity = identity
        self.key = key
        self.windows: dict[Any, WindowState] = {}

    def has(self, state: WindowState) -> bool:
        """Whether this is the state of one of the windows, still."""
        return self.windows.get(state.window) is state


class TriggerRunner:
    """Runs the trigger of one windowing strategy over the windows of keys.

    State: in ``touched``, the windows that something happened to since somebody cleared it, gone ones too; in ``late``,
    how many elements were dropped as late since somebody set that to 0 (count, once for each window).

    Args:
        windowing: Beam's.
        clock: processing time.
        holding: what the windows hold.
    """

    def __init__(self, windowing: Any, clock: Clock, contents_of: BufferedValues | None = None) -> None:
        self.touched: list[WindowState] = []
        self.late = 0
        self._contents = contents_of or BufferedValues()
        self._trigger = windowing.triggerfn
        self._windowfn = windowing.windowfn
        self._merging = windowing.windowfn.is_merging()
        self._lateness = windowing.allowed_lateness
        self._accumulates = windowing.accumulation_mode == AccumulationMode.ACCUMULATING
        self._stamps = TimestampCombiner.get_impl(windowing.timestamp_combiner, windowing.windowfn)
        self._at_end = windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
        self._keeps_hold = windowing.triggerfn.has_ontime_pane()
        self._loses = bool(windowing.triggerfn.may_lose_data(windowing))
        self._clock = clock

    def process(
        self, key: KeyWindows, elements: Iterable[tuple[Any, Timestamp, Any]], watermark: Timestamp
    ) -> Iterator[WindowedValue]:
        """Adds (value, timestamp, windows) elements of a key; gives the panes that fire at once."""
        by_window: dict[Any, list[Element]] = {}
        for value, stamp, windows in elements:
            for window in windows:
                by_window.setdefault(window, []).append((value, stamp))
        now = int(watermark.micros)
        if self._merging:
            on_time = {window: found for window, found in by_window.items() if now <= self.closing(window)}
            if len(on_time) < len(by_window):
                self.late += sum(len(found) for window, found in by_window.items() if window not in on_time)
            by_window = self._merge(key, on_time)
        for window, found in by_window.items():
            state = key.windows.get(window)
            if state is None:
                closes = self.closing(window)
                if now > closes:
                    self.late += len(found)
                    continue
                state = key.windows[window] = WindowState(key, window, closes)
            self.touched.append(state)
            if state.done or now > state.closes:
                # One that comes before the window's end, when its trigger has finished, is not wanted at any time.
                if now > window.max_timestamp().micros:
                    self.late += len(found)
                continue
            self._add(window, state, found, watermark)
            context = _Context(state, self._clock)
            if self._trigger.should_fire(TimeDomain.WATERMARK, watermark, window, context):
                finished = self._trigger.on_fire(watermark, window, context)
                yield self._pane(window, state, finished, watermark, False)

    def closing(self, window: Any) -> int:
        """When a window is over for good, once the watermark has passed that (microseconds)."""
        return int((window.end + self._lateness).micros)

    def _add(self, window: Any, state: WindowState, found: list[Element], watermark: Timestamp) -> None:
        stamps = self._stamps
        if not self._at_end:
            assigned = (stamps.assign_output_time(window, stamp) for _, stamp in found)
            hold = stamps.merge(window, (stamp for stamp in assigned if stamp >= watermark))
            if hold is not None:
                state.hold = hold if state.hold is None else stamps.combine_all([state.hold, hold])
        elif state.hold is None:
            state.hold = window.max_timestamp()
        context, on_element = _Context(state, self._clock), self._trigger.on_element
        for value, _ in found:
            on_element(value, window, context)
        state.contents = self._contents.add(state.contents, [value for value, _ in found])
        state.fresh += len(found)

    def _merge(self, key: KeyWindows, by_window: dict[Any, list[Element]]) -> dict[Any, list[Element]]:
        if all(window in key.windows for window in by_window):
            return by_window
        into = merged_windows(self._windowfn, {*key.windows, *by_window})
        groups: dict[Any, list[Any]] = {}
        for window, target in into.items():
            groups.setdefault(target, []).append(window)
        for target, windows in groups.items():
            if windows != [target]:
                self._merge_states(key, target, windows)
        merged: dict[Any, list[Element]] = {}
        for window, found in by_window.items():
            merged.setdefault(into[window], []).extend(found)
        return merged

    def _merge_states(self, key: KeyWindows, target: Any, windows: list[Any]) -> None:
        found = [(window, key.windows.pop(window)) for window in windows if window in key.windows]
        if not found:
            return
        whole = key.windows[target] = WindowState(key, target, self.closing(target))
        self.touched += [whole, *(state for _, state in found)]
        parts = [state.contents for _, state in found if state.contents is not NOTHING]
        whole.contents = self._contents.merged(parts) if parts else NOTHING
        for window, state in found:
            whole.fresh += state.fresh
            whole.done = whole.done or state.done
            if window == target:  # panes are counted for a window, and a merged one begins anew
                whole.index, whole.settled = state.index, state.settled
            for tag, value in state.tags.items():
                whole.tags[tag] = whole.tags[tag] + value if tag in whole.tags else value
            for timer, stamp in state.timers.items():
                later = max if timer[1] == TimeDomain.WATERMARK else min
                whole.timers[timer] = later(whole.timers[timer], stamp) if timer in whole.timers else stamp
        holds = [state.hold for _, state in found if state.hold is not None]
        whole.hold = self._stamps.merge(target, holds) if holds else None
        self._trigger.on_merge(windows, target, _Context(whole, self._clock))

    def due(self, states: Iterable[WindowState], watermark: int, now: int | None) -> list[tuple[Any, str, Timestamp]]:
        """Takes out the timers that are due as (window, domain, time): event time first, each in order of time.

        ``watermark`` and ``now``, which is processing time, are in microseconds; None leaves that one's timers alone.
        """
        found = []
        for state in states:
            for timer, at in list(state.timers.items()):
                clock = timer[1] == TimeDomain.REAL_TIME
                limit = now if clock else watermark
                if limit is not None and at <= limit:
                    del state.timers[timer]
                    self.touched.append(state)
                    found.append((clock, at, state.window, timer[1]))
        found.sort(key=lambda timer: timer[:2])
        return [(window, domain, Timestamp(micros=at)) for _, at, window, domain in found]

    def fire(self, key: KeyWindows, window: Any, domain: str, at: Timestamp) -> Iterator[WindowedValue]:
        """A timer of a window is due at an event time; gives the pane if the trigger fires."""
        state = key.windows.get(window)
        if state is None or state.done:
            return
        self.touched.append(state)
        context = _Context(state, self._clock)
        if self._trigger.should_fire(domain, at, window, context):
            finished = self._trigger.on_fire(at, window, context)
            yield self._pane(window, state, finished, at, domain == TimeDomain.WATERMARK)

    def close(self, states: Iterable[WindowState], watermark: Timestamp, ended: bool) -> Iterator[WindowedValue]:
        """Forgets those windows that are over; gives what no pane of theirs has had, in a last one.

        A trigger of those that Beam counts as unsafe may lose data, and does, unless it waits for the clock only: that
        the clock would have come there is no doubt.
        """
        for state in states:
            window, key = state.window, state.key
            if not key.has(state) or not (ended or watermark.micros > state.closes):
                continue
            del key.windows[window]
            self.touched.append(state)
            if not state.done and state.fresh and not (self._loses and state.clock_timer() is None):
                yield self._pane(window, state, True, watermark, True)

    def _pane(
        self, window: Any, state: WindowState, finished: bool, watermark: Timestamp, may_be_on_time: bool
    ) -> WindowedValue:
        index, settled = state.index, state.settled
        state.index += 1
        if watermark <= window.max_timestamp():
            timing, settled_index = PaneInfoTiming.EARLY, -1
            if settled:  # a window that late data moved on: its panes were counted as settled before
                settled_index = settled
                state.settled += 1
        else:
            on_time = may_be_on_time and settled == 0
            timing, settled_index = PaneInfoTiming.ON_TIME if on_time else PaneInfoTiming.LATE, settled
            state.settled += 1
        contents, state.contents, state.fresh = state.contents, NOTHING, 0
        if finished:
            state.done = True
        elif self._accumulates and contents is not NOTHING:
            state.contents = self._contents.retained(contents)
        value = self._contents.result(contents)
        stamp = window.max_timestamp() if state.hold is None else state.hold
        # The hold stays while an empty pane may still have to come at the end of the window.
        if not (watermark < window.end and self._keeps_hold):
            state.hold = None
        return WindowedValue(value, stamp, (window,), PaneInfo(index == 0, finished, timing, index, settled_index))
