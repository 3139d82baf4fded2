"""A DoFn with state and timers, at the head of a stage."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine import spec
from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import TaskContext, VirtualClock
from sage.runners.engine.failures import naming
from sage.runners.engine.keyed.cells import make_cell
from sage.runners.engine.keyed.keys import KeyIds, key_coder
from sage.runners.engine.keyed.timers import TimerHandle, TimerQueue
from sage.runners.engine.ops import Output, ParDoOp
from sage.runners.engine.root import OpRoot


class KeyedState(userstate.UserStateContext):
    """State and timers of one step, by window and key identity.

    State kept: cells by window, then by (state name, key identity); two timer queues.
    """

    def __init__(self, ids: KeyIds) -> None:
        self._ids = ids
        self._cells: dict[Any, dict[Any, Any]] = {}
        self._specs: dict[str, Any] = {}
        self._key: Any = object()
        self._identity: Any = None
        self.event_timers = TimerQueue()
        self.clock_timers = TimerQueue()

    def _identify(self, key: Any) -> Any:
        if key is not self._key:
            self._identity = self._ids.of(key)
            self._key = key
        return self._identity

    def get_state(self, state_spec: Any, key: Any, window: Any) -> Any:
        cells = self._cells.get(window)
        if cells is None:
            cells = self._cells[window] = {}
        place = (state_spec.name, self._identify(key))
        cell = cells.get(place)
        if cell is None:
            cell = cells[place] = make_cell(self._prepared(state_spec))
        return cell

    def _prepared(self, state_spec: Any) -> Any:
        """The spec with a set-up copy of its CombineFn: the user's own object may serve other steps."""
        if not isinstance(state_spec, userstate.CombiningValueStateSpec):
            return state_spec
        if state_spec.name not in self._specs:
            prepared = copy.copy(state_spec)
            prepared.combine_fn = copy.deepcopy(state_spec.combine_fn)
            prepared.combine_fn.setup()
            self._specs[state_spec.name] = prepared
        return self._specs[state_spec.name]

    def close(self) -> None:
        """Tears down what was set up."""
        for prepared in self._specs.values():
            prepared.combine_fn.teardown()
        self._specs.clear()

    def get_timer(self, timer_spec: Any, key: Any, window: Any, timestamp: Any, pane: Any) -> TimerHandle:
        event = TimeDomain.is_event_time(timer_spec.time_domain)
        queue = self.event_timers if event else self.clock_timers
        place = (self._identify(key), key, window)
        return TimerHandle(queue, timer_spec, place, timestamp.micros, pane)

    def expire(self, watermark: int, lateness_micros: int) -> None:
        """Forgets the state of windows that the watermark has passed for good."""
        gone = [w for w in self._cells if w.max_timestamp().micros + lateness_micros < watermark]
        for window in gone:
            del self._cells[window]

    def commit(self) -> None:
        """Cells are written in place."""

    def reset(self) -> None:
        """Cells outlive bundles."""


class StatefulRoot(OpRoot):
    """Runs a keyed DoFn with its state and timers: bound by compiled code, or by Beam's ``DoFnRunner``."""

    op: ParDoOp

    def __init__(
        self,
        step: spec.ParDo,
        outputs: dict[str | None, Output],
        context: TaskContext,
        side_inputs: Sequence[Any] = (),
    ) -> None:
        source = context.collections[step.inputs[0]]
        self._state = KeyedState(KeyIds(key_coder(source.coder)))
        super().__init__(ParDoOp(step, outputs, context, side_inputs, self._state), source.id)
        self._context = context
        # On a clock that only the input moves, what lies behind the input's end is never reached.
        self._clock_goes_on = source.bounded or not isinstance(context.clock, VirtualClock)
        self._lateness = source.windowing.allowed_lateness.micros

    def process_block(self, port: int, block: Block) -> None:
        self.entry.receive_block(self._in_time(block))

    def _in_time(self, block: Block) -> Block:
        """The block without the windows whose state is gone for good."""
        expiry = self.watermark - self._lateness
        distinct = set(block.windows) if isinstance(block.windows, list) else {block.windows}
        if all(window.max_timestamp().micros >= expiry for windows in distinct for window in windows):
            return block
        kept = []
        for value in block.windowed_values():
            live = tuple(w for w in value.windows if w.max_timestamp().micros >= expiry)
            if live:
                kept.append(WindowedValue(value.value, value.timestamp, live, value.pane_info))
        return Block.of(kept)

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        due = self._state.event_timers.next_fire()
        if due is not None and due <= watermark:
            return True
        if watermark >= MAX_MICROS and len(self._state.clock_timers):
            return True
        self._state.expire(watermark, self._lateness)
        return False

    def fire(self) -> None:
        state, op = self._state, self.op
        # When the input has ended there is nothing left to wait for: the clock jumps.
        ended = self.watermark >= MAX_MICROS
        jumps = ended and self._clock_goes_on
        while True:
            timer = state.event_timers.pop_due(self.watermark)
            if timer is None:
                now = MAX_MICROS if jumps else self._context.clock.now_micros()
                timer = state.clock_timers.pop_due(now)
            if timer is None:
                break
            # Of either domain: users set a timer that repeats by the timestamp they are given.
            stamp = Timestamp(micros=timer.fire)
            op.guarded(
                op.runner.process_user_timer, timer.spec, timer.key, timer.window, stamp, timer.pane, timer.tag
            )
        if ended:
            state.clock_timers.drop_all()
        state.expire(self.watermark, self._lateness)

    def wakeup(self) -> int | None:
        return self._state.clock_timers.next_fire()

    def hold(self) -> int:
        return min(self._state.event_timers.hold(), self._state.clock_timers.hold())

    def close(self) -> None:
        with naming(self.op.step.name, self._context):
            self._state.close()
        super().close()
