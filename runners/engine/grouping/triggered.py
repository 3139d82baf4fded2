"""Grouping under any trigger and any windowing, merging ones included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import TaskContext
from sage.runners.engine.failures import RAISED, raise_step_error
from sage.runners.engine.grouping.gathered import Gathered
from sage.runners.engine.grouping.paneroot import PaneRoot
from sage.runners.engine.grouping.panes import KeyPanes, PaneDriver
from sage.runners.engine.ops import Output
from sage.runners.engine.spec import Step
from sage.runners.engine.spilling.runs import Envelope

_ENVELOPE = Envelope(lambda item: item.value, lambda item, value: item.with_value(value))


class TriggeredRoot(PaneRoot):
    """State: for each key, what its windows hold and which timers its triggers set.

    When a window is over for good, what no pane has had yet comes out in a last one, unless the trigger is one of
    those that Beam counts as unsafe, which may lose data.

    A bounded input is gathered whole and then handed over in one piece, since a trigger that counts elements sees
    the end of a batch only then; an unbounded one goes to the trigger as it comes.
    """

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        super().__init__(step, output, context)
        source = context.collections[step.inputs[0]]
        self._bounded = source.bounded
        self._driver = PaneDriver(source.windowing, context.clock)
        self._keys: dict[Any, Any] = {}
        self._gathered = Gathered(source, context.job.memory, _ENVELOPE)
        self._states: dict[Any, KeyPanes] = {}

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
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context, keyed=True)
        if not self._bounded:
            watermark = Timestamp(micros=self.watermark)
            for identity, values in touched.items():
                state = self._states.setdefault(identity, KeyPanes())
                self._emit(self._keys[identity], self._driver.process(state, _elements(values), watermark))

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return watermark >= MAX_MICROS if self._bounded else bool(self._states)

    def fire(self) -> None:
        driver = self._driver
        if self._bounded:
            for key, values in self._gathered.drain():
                state = KeyPanes()
                self._emit(key, driver.process(state, _elements(values), MIN_TIMESTAMP))
                self._drain(key, state, MAX_TIMESTAMP, None)
                self._drain(key, state, MAX_TIMESTAMP, MAX_TIMESTAMP)
                self._emit(key, driver.close(state, MAX_TIMESTAMP, True))
            return
        now = Timestamp(micros=self._context.clock.now_micros())
        watermark = Timestamp(micros=self.watermark)
        for identity, state in list(self._states.items()):
            key = self._keys[identity]
            self._drain(key, state, watermark, now)
            self._emit(key, driver.close(state, watermark, self.watermark >= MAX_MICROS))
            if not state.windows:
                del self._states[identity], self._keys[identity]

    def _drain(self, key: Any, state: KeyPanes, watermark: Timestamp, now: Timestamp | None) -> None:
        """Fires what is due, event time first, until nothing is."""
        driver = self._driver
        while due := driver.due(state, watermark, now):
            for window, domain, fire_at in due:
                # Triggers compare what they are given with the window's end, so the clock's time is not for them.
                at = watermark if domain == TimeDomain.REAL_TIME else fire_at
                self._emit(key, driver.fire(state, window, domain, at))

    def _emit(self, key: Any, panes: Iterable[WindowedValue]) -> None:
        try:
            ready = [pane.with_value((key, self.result(pane.value))) for pane in panes]
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context)
        for pane in ready:
            self._output.receive(pane)

    def wakeup(self) -> int | None:
        return min((at for state in self._states.values() for at in state.clock_timers()), default=None)

    def hold(self) -> int:
        if self._bounded:
            return MAX_MICROS
        return min((state.earliest_hold() for state in self._states.values()), default=MAX_MICROS)


def _elements(values: Iterable[WindowedValue]) -> Iterator[tuple[Any, Timestamp, Any]]:
    return ((value.value, value.timestamp, value.windows) for value in values)
