"""Grouping under any trigger and any windowing, merging ones included; Beam's own trigger driver decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import GeneralTriggerDriver, InMemoryUnmergedState
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


class TriggeredRoot(Root):
    """State: for each key, what its windows hold and which timers its triggers set.

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
        self._driver = GeneralTriggerDriver(source.windowing, _Seconds(context.clock))
        self._keys: dict[Any, Any] = {}
        self._gathered = Gathered(source, context.job.memory, _ENVELOPE)
        self._states: dict[Any, InMemoryUnmergedState] = {}
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
                state = self._states.setdefault(identity, InMemoryUnmergedState())
                self._emit(self._keys[identity], self._driver.process_elements(state, values, now, now))

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return watermark >= MAX_MICROS if self._bounded else bool(self._states)

    def fire(self) -> None:
        if self._bounded:
            for key, values in self._gathered.drain():
                state = InMemoryUnmergedState()
                self._emit(key, self._driver.process_elements(state, values, MIN_TIMESTAMP, MIN_TIMESTAMP))
                self._drain(key, state, lambda: MAX_TIMESTAMP, None)
                self._drain(key, state, lambda: MAX_TIMESTAMP, MAX_TIMESTAMP)
            return
        now = Timestamp(micros=self._context.clock.now_micros())
        last = self.watermark >= MAX_MICROS
        for identity, state in list(self._states.items()):
            self._drain(self._keys[identity], state, lambda: Timestamp(micros=self.watermark), now)
            if last:
                del self._states[identity]

    def _drain(
        self, key: Any, state: InMemoryUnmergedState, watermark: Callable[[], Timestamp], now: Timestamp | None
    ) -> None:
        """Fires what is due, event time first, until nothing is."""
        while True:
            due = _due(state, watermark(), now)
            if not due:
                return
            for window, name, domain, fire_at in due:
                at = watermark() if not self._bounded else None
                self._emit(key, self._driver.process_timer(window, name, domain, fire_at, state, at))

    def _emit(self, key: Any, panes: Iterable[WindowedValue]) -> None:
        combine = self._combine
        try:
            ready = [
                pane.with_value((key, pane.value if combine is None else combine.apply(pane.value))) for pane in panes
            ]
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
            limit = now if domain == TimeDomain.REAL_TIME else watermark
            if limit is not None and stamp <= limit:
                found.append((window, name, domain, stamp))
                del timers[tag]
        if not timers:
            del state.timers[window]
    found.sort(key=lambda timer: (timer[2] == TimeDomain.REAL_TIME, timer[3]))
    return found
