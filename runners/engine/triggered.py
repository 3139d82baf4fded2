"""Grouping under any trigger and any windowing, merging ones included; Beam's own trigger driver decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import AccumulationMode, GeneralTriggerDriver, InMemoryUnmergedState
from apache_beam.transforms.trigger import MergeableStateAdapter as Windows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import Clock, TaskContext
from sage.runners.engine.gathered import Gathered
from sage.runners.engine.keys import KeyIds, key_coder
from sage.runners.engine.ops import Output, raise_step_error
from sage.runners.engine.root import Root
from sage.runners.engine.runs import Envelope
from sage.runners.engine.spec import CombinePerKey, Step

_ENVELOPE = Envelope(lambda item: item.value, lambda item, value: item.with_value(value))


class _Seconds:
    """The job's clock as Beam's triggers read it: seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.now_micros() / 1e6


class _KeyState(InMemoryUnmergedState):
    """One key: what its windows hold, the timers of its triggers, and how much of a window its last pane had."""

    def __init__(self) -> None:
        super().__init__()
        self.put_out: dict[Any, int] = {}


class TriggeredRoot(Root):
    """State: for each key, what its windows hold and which timers its triggers set.

    When a window is over for good, what no pane has had yet comes out in a last one, unless the trigger is one of
    those that Beam counts as unsafe, which may lose data.

    A bounded input is gathered whole and then handed over in one piece, since a trigger that counts elements sees
    the end of a batch only then; an unbounded one goes to the trigger as it comes.
    """

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        source = context.collections[step.inputs[0]]
        self.step = step
        self._context = context
        self._output = output
        self._ids = KeyIds(key_coder(source.coder))
        self._bounded = source.bounded
        self._lateness = source.windowing.allowed_lateness
        self._loses = bool(source.windowing.triggerfn.may_lose_data(source.windowing))
        self._accumulates = source.windowing.accumulation_mode == AccumulationMode.ACCUMULATING
        self._driver = GeneralTriggerDriver(source.windowing, _Seconds(context.clock))
        self._keys: dict[Any, Any] = {}
        self._gathered = Gathered(source, context.job.memory, _ENVELOPE)
        self._states: dict[Any, _KeyState] = {}
        self._combine: Any = step.combine_fn if isinstance(step, CombinePerKey) else None

    def open(self) -> None:
        if self._combine is not None:
            self._combine.setup()

    def close(self) -> None:
        if self._combine is not None:
            self._combine.teardown()

    def process_block(self, port: int, block: Block) -> None:
        touched: dict[Any, list[WindowedValue]] = self._gathered.lists if self._bounded else {}
        keys = self._gathered.keys if self._bounded else self._keys
        of, before = self._ids.of, len(touched)
        try:
            for (key, value), stamp, windows, pane in block.rows():
                identity = of(key)
                keys.setdefault(identity, key)
                touched.setdefault(identity, []).append(WindowedValue(value, stamp, windows, pane))
            if self._bounded:
                self._gathered.took(block.values, len(touched) - before)
        except Exception as error:
            raise_step_error(self.step.name, error, self._context)
        if not self._bounded:
            now = Timestamp(micros=self.watermark)
            for identity, values in touched.items():
                state = self._states.setdefault(identity, _KeyState())
                self._emit(self._keys[identity], state, self._driver.process_elements(state, values, now, now))

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return watermark >= MAX_MICROS if self._bounded else bool(self._states)

    def fire(self) -> None:
        if self._bounded:
            for key, values in self._gathered.drain():
                state = _KeyState()
                self._emit(key, state, self._driver.process_elements(state, values, MIN_TIMESTAMP, MIN_TIMESTAMP))
                self._drain(key, state, MAX_TIMESTAMP, None)
                self._drain(key, state, MAX_TIMESTAMP, MAX_TIMESTAMP)
                self._close_windows(key, state, MAX_TIMESTAMP)
            return
        now = Timestamp(micros=self._context.clock.now_micros())
        watermark = Timestamp(micros=self.watermark)
        for identity, state in list(self._states.items()):
            self._drain(self._keys[identity], state, watermark, now)
            self._close_windows(self._keys[identity], state, watermark)
            if not state.state and not state.timers:
                del self._states[identity], self._keys[identity]

    def _drain(self, key: Any, state: _KeyState, watermark: Timestamp, now: Timestamp | None) -> None:
        """Fires what is due, event time first, until nothing is."""
        while due := _due(state, watermark, now):
            for window, name, domain, fire_at in due:
                at = watermark if not self._bounded else None
                # Triggers compare what they are given with the window's end, so the clock's time is not for them.
                stamp = watermark if domain == TimeDomain.REAL_TIME else fire_at
                self._emit(key, state, self._driver.process_timer(window, name, domain, stamp, state, at))

    def _close_windows(self, key: Any, state: _KeyState, watermark: Timestamp) -> None:
        """Puts out what is left in windows that are over, and forgets them."""
        driver, windows = self._driver, Windows(state)
        for window in windows.known_windows():
            if watermark < MAX_TIMESTAMP and watermark <= window.end + self._lateness:
                continue
            held = 0 if self._loses else len(windows.get_state(window, driver.ELEMENTS))
            if held > state.put_out.pop(window, 0) and not windows.get_state(window, driver.TOMBSTONE):
                self._emit(key, state, [driver._output(window, True, windows, watermark, True)])
            for id in windows.window_ids.pop(window):
                state.state.pop(id, None)
                state.timers.pop(id, None)
        windows._persist_window_ids()

    def _emit(self, key: Any, state: _KeyState, panes: Iterable[WindowedValue]) -> None:
        combine, ready = self._combine, []
        try:
            for pane in panes:
                if self._accumulates:
                    state.put_out[pane.windows[0]] = len(pane.value)
                value = pane.value if combine is None else combine.apply(pane.value)
                ready.append(pane.with_value((key, value)))
        except Exception as error:
            raise_step_error(self.step.name, error, self._context)
        for pane in ready:
            self._output.receive(pane)

    def wakeup(self) -> int | None:
        times = [
            int(Timestamp.of(stamp).micros)
            for state in self._states.values()
            for timers in state.timers.values()
            for (_, domain, _), stamp in timers.items()
            if domain == TimeDomain.REAL_TIME
        ]
        return min(times, default=None)

    def hold(self) -> int:
        if self._bounded:
            return MAX_MICROS
        return min((int(s.get_earliest_hold().micros) for s in self._states.values()), default=MAX_MICROS)


def _due(
    state: InMemoryUnmergedState, watermark: Timestamp, now: Timestamp | None
) -> list[tuple[Any, str, str, Timestamp]]:
    """Takes out the timers that are due, event-time ones first, each kind in order of time."""
    found = []
    for window, timers in list(state.timers.items()):
        for tag, stamp in list(timers.items()):
            name, domain, _ = tag
            stamp = Timestamp.of(stamp)  # Beam's processing-time triggers count in seconds
            limit = now if domain == TimeDomain.REAL_TIME else watermark
            if limit is not None and stamp <= limit:
                found.append((window, name, domain, stamp))
                del timers[tag]
        if not timers:
            del state.timers[window]
    found.sort(key=lambda timer: (timer[2] == TimeDomain.REAL_TIME, timer[3]))
    return found
