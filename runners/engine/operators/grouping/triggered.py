"""Grouping under any trigger and any windowing, merging ones included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.core.deadlines import DeadlineQueue
from sage.runners.engine.core.keys import value_coder
from sage.runners.engine.core.spec import Step
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import RAISED, raise_step_error
from sage.runners.engine.operators.base.operator import Output
from sage.runners.engine.operators.grouping.keyed_table import Item, SpillableTable
from sage.runners.engine.operators.grouping.pane_root import PaneRoot
from sage.runners.engine.operators.grouping.pane_snapshots import pack_states, unpack_states
from sage.runners.engine.operators.grouping.rows import KeyedRows, pack_parts, unpack_parts
from sage.runners.engine.operators.grouping.trigger_runner import KeyWindows, TriggerRunner, WindowState
from sage.runners.engine.serde.values import Envelope
from sage.runners.engine.serde.windows import WindowForms

Element = tuple[Any, Timestamp, Any]
"""Value, timestamp and windows."""


class TriggeredRoot(PaneRoot):
    """State: for each key, what its windows hold and which timers its triggers set; when which window is due; of the
    bundle that is open, what came for each key.

    When a window is over for good, what no pane has had yet comes out in a last one, unless the trigger is one of
    those that Beam counts as unsafe, which may lose data.

    A bounded input is gathered whole and then handed over in one piece, since a trigger that counts elements sees
    the end of a batch only then; of an unbounded one, what came for a key in a bundle.
    """

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        super().__init__(step, output, context)
        source = self._source
        self._driver = TriggerRunner(source.windowing, context.clock, self._contents)
        self._forms = forms = WindowForms(source.windowing.windowfn)
        item = Item(
            Envelope(lambda item: item[0], lambda item, value: (value, *item[1:])),
            lambda item: (item[1].micros, list(map(forms.form, item[2]))),
            lambda rest, value: (value, Timestamp(micros=rest[0]), tuple(map(forms.window, rest[1]))),
        )
        self._gathered = SpillableTable(source, value_coder(source.coder), item, context.job)
        self._states: dict[Any, KeyWindows] = {}
        self._events = DeadlineQueue()
        self._clocks = DeadlineQueue()
        self._holds = DeadlineQueue()
        self._came: dict[Any, list[Any]] = {}
        self._notes = context.job.options.checkpoints
        self._changed: dict[Any, Any] = {}
        self._rows = KeyedRows(source, self._contents_coder)

    def process_block(self, port: int, block: Block) -> None:
        if self._bounded:
            self._gather(block)
            return
        came, of = self._came, self._ids.of
        new: list[Any] = []
        try:
            for (key, value), stamp, windows, _ in block.rows():
                identity = of(key)
                found = came.get(identity)
                if found is None:
                    if identity not in self._states:
                        new.append(identity)
                    came[identity] = [key, (value, stamp, windows)]
                else:
                    found.append((value, stamp, windows))
            if new:
                self._ids.check(new)
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context, keyed=True)

    def finish_bundle(self) -> None:
        came, self._came = self._came, {}
        watermark = Timestamp(micros=self.watermark)
        for identity, (key, *elements) in came.items():
            state = self._states.get(identity)
            if state is None:
                state = self._states[identity] = KeyWindows(identity, key)
            self._emit(state.key, self._driver.process(state, elements, watermark))
            self._settle()
            if not state.windows:  # all of it was too late
                self._states.pop(identity, None)
        if self._driver.late:
            self.late.drop(self._driver.late)
            self._driver.late = 0

    def _gather(self, block: Block) -> None:
        lists, keys, of = self._gathered.lists, self._gathered.keys, self._ids.of
        before = len(lists)
        try:
            for (key, value), stamp, windows, _ in block.rows():
                identity = of(key)
                keys.setdefault(identity, key)
                lists.setdefault(identity, []).append((value, stamp, windows))
            if len(lists) > before:
                self._ids.check(list(islice(reversed(lists), len(lists) - before)))
            self._gathered.added(block.values, len(lists) - before)
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context, keyed=True)

    def _settle(self) -> None:
        """Notes when the windows that were touched are due next; forgets keys that have none."""
        driver = self._driver
        for window in driver.touched:
            key = window.key
            is_open = key.has(window)
            self._events.set(window, window.next_event() if is_open else None)
            self._clocks.set(window, window.clock_timer() if is_open else None)
            self._holds.set(window, window.earliest() if is_open else None)
            if self._notes:
                self._changed[key.identity] = key.key
            if not key.windows:
                self._states.pop(key.identity, None)
        driver.touched.clear()

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        if self._bounded:
            return watermark >= MAX_MICROS
        due = self._events.earliest()
        return due is not None and due <= watermark

    def fire(self) -> None:
        if self._bounded:
            if self.watermark >= MAX_MICROS:
                self._fire_all()
            return
        now = self._context.clock.now_micros()
        ended = self.watermark >= MAX_MICROS
        watermark = Timestamp(micros=self.watermark)
        for key, windows in self._due(now, ended).items():
            self._drain(key, windows, watermark, now)
            self._emit(key.key, self._driver.close(windows, watermark, ended))
            self._driver.touched += windows
            self._settle()

    def _due(self, now: int, ended: bool) -> dict[KeyWindows, list[WindowState]]:
        """The windows that have something to do, by key."""
        if ended:
            return {key: list(key.windows.values()) for key in list(self._states.values())}
        found: dict[KeyWindows, dict[WindowState, None]] = {}
        for window in (*self._events.pop_due(self.watermark), *self._clocks.pop_due(now)):
            found.setdefault(window.key, {})[window] = None
        return {key: list(windows) for key, windows in found.items()}

    def _fire_all(self) -> None:
        """A bounded input is over: each key goes through the trigger in one piece."""
        driver = self._driver
        for key, elements in self._gathered.drain():
            state = KeyWindows(None, key)
            self._emit(key, driver.process(state, elements, MIN_TIMESTAMP))
            self._drain(state, state.windows.values(), MAX_TIMESTAMP, None)
            self._drain(state, state.windows.values(), MAX_TIMESTAMP, MAX_MICROS)
            self._emit(key, driver.close(list(state.windows.values()), MAX_TIMESTAMP, True))
            driver.touched.clear()

    def _drain(self, key: KeyWindows, windows: Iterable[WindowState], watermark: Timestamp, now: int | None) -> None:
        """Fires what is due, event time first, until nothing is."""
        driver = self._driver
        while due := driver.due(windows, int(watermark.micros), now):
            for window, domain, fire_at in due:
                # Triggers compare what they are given with the window's end, so the clock's time is not for them.
                at = watermark if domain == TimeDomain.REAL_TIME else fire_at
                self._emit(key.key, driver.fire(key, window, domain, at))

    def _emit(self, key: Any, panes: Iterator[WindowedValue]) -> None:
        try:
            ready = [pane.with_value((key, pane.value)) for pane in panes]
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context)
        for pane in ready:
            self._output.receive(pane)

    def wakeup(self) -> int | None:
        return self._clocks.earliest()

    def hold(self) -> int:
        hold = self._holds.earliest()
        return MAX_MICROS if hold is None else hold

    # Snapshots: keys that changed, with the windows that they have now; a key without any is gone.

    def snapshot(self, whole: bool) -> RootSnapshot:
        if self._bounded:
            return self._gathered.snapshot(whole)
        whole = whole or not self._notes
        keys = {i: state.key for i, state in self._states.items()} if whole else self._changed
        self._changed = {}
        if not whole and not keys:
            return RootSnapshot(None, whole=False)
        states = [s for i in keys if (key := self._states.get(i)) is not None for s in key.windows.values()]
        packed = pack_states(self._rows, self._forms, self._contents, states)
        return RootSnapshot(pack_parts(self._rows.pack_keys({} if whole else keys), packed), whole)

    def restore(self, state: RootState) -> None:
        if self._bounded:
            self._gathered.restore(state)
            self._gathered.weigh()
            return
        for changed, packed in unpack_parts(chain.from_iterable(state.keyed)):
            for _, identity, _, _ in self._rows.unpack(changed, None):
                self._states.pop(identity, None)
            for identity, key, window in unpack_states(self._rows, self._forms, self._contents, packed, state.mine):
                found = self._states.get(identity)
                if found is None:
                    found = self._states[identity] = KeyWindows(identity, key)
                window.key = found
                found.windows[window.window] = window
        self._driver.touched += [window for key in self._states.values() for window in key.windows.values()]
        self._settle()
        self._changed = {}
