"""A DoFn with state and timers, at the head of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from apache_beam.transforms import userstate
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.core.keys import key_coder
from sage.runners.engine.operators.base.context import TaskContext, VirtualClock
from sage.runners.engine.operators.base.failures import naming
from sage.runners.engine.operators.base.late import LateRecords
from sage.runners.engine.operators.base.operator import Output, ParDoOp
from sage.runners.engine.operators.base.root import OpRoot
from sage.runners.engine.operators.keyed.chunks import StateSchema
from sage.runners.engine.operators.keyed.state import KeyedState
from sage.runners.engine.operators.keyed.store_backed_state import StoreBackedState
from sage.runners.engine.operators.keyed.timers import Timer


class StatefulRoot(OpRoot):
    """Runs a keyed DoFn with its state and timers: bound by compiled code, or by Beam's ``DoFnRunner``."""

    op: ParDoOp
    late: LateRecords

    def __init__(
        self,
        step: spec.ParDo,
        outputs: dict[str | None, Output],
        context: TaskContext,
        side_inputs: Sequence[Any] = (),
    ) -> None:
        source = context.collections[step.inputs[0]]
        states, timers = userstate.get_dofn_specs(step.dofn.fn)
        declared = StateSchema(
            step.name,
            {state.name: state for state in states},
            {timer.name: timer for timer in timers},
            key_coder(source.coder),
            source.windowing.windowfn.get_window_coder(),
        )
        self.late = LateRecords(step.name, context)
        self._lateness = source.windowing.allowed_lateness.micros
        self._state = self._state_of(declared, context)
        super().__init__(ParDoOp(step, outputs, context, side_inputs, self._state), source.id)
        self._context = context
        # On a clock that only the input moves, what lies behind the input's end is never reached.
        self._clock_goes_on = source.bounded or not isinstance(context.clock, VirtualClock)

    def _state_of(self, declared: StateSchema, context: TaskContext) -> KeyedState:
        store, checkpoints = context.job.keyed, context.job.options.checkpoints
        if store is None:
            return KeyedState(declared, checkpoints)
        return StoreBackedState(declared, store(declared.step), self._lateness, checkpoints)

    def process_block(self, port: int, block: Block) -> None:
        block = self._in_time(block)
        if len(block):
            self.entry.receive_block(block)
        if self._state.made > self._state.most_made:
            self._state.trim(self._expired)

    def _in_time(self, block: Block) -> Block:
        """The block without the windows whose state is gone for good."""
        expiry = self.watermark - self._lateness
        distinct = set(block.windows) if isinstance(block.windows, list) else {block.windows}
        if all(window.max_timestamp().micros >= expiry for windows in distinct for window in windows):
            return block
        kept, late = [], 0
        for value in block.windowed_values():
            live = tuple(w for w in value.windows if w.max_timestamp().micros >= expiry)
            late += len(value.windows) - len(live)
            if live:
                kept.append(WindowedValue(value.value, value.timestamp, live, value.pane_info))
        self.late.drop(late)
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
        # When the input has ended there is nothing left to wait for: the clock jumps.
        ended = self.watermark >= MAX_MICROS
        timers = self._due(jumps=ended and self._clock_goes_on)
        front = self.entry.front
        if front is not None and front.fires:
            front.fire(timers)
        else:
            self._call_back(timers)
        if ended:
            self._state.clock_timers.drop_all()
        self._state.expire(self.watermark, self._lateness)

    def _due(self, jumps: bool) -> Iterator[Timer]:
        """The timers that are due now, each to be called back before the next is asked for. Those that become due
        meanwhile are for the next time: else one that sets itself again would have no end where callbacks are slow.
        """
        state = self._state
        now = MAX_MICROS if jumps else self._context.clock.now_micros()
        while True:
            timer = state.event_timers.pop_due(self.watermark)
            if timer is None:
                timer = state.clock_timers.pop_due(now)
            if timer is None:
                return
            yield timer
            if state.made > state.most_made:
                state.trim(self._expired)

    def _call_back(self, timers: Iterable[Timer]) -> None:
        op = self.op
        for timer in timers:
            # Of either domain: users set a timer that repeats by the timestamp they are given.
            stamp = Timestamp(micros=timer.fire)
            op.guarded(
                op.runner.process_user_timer, timer.spec, timer.key, timer.window, stamp, timer.pane, timer.tag
            )

    def wakeup(self) -> int | None:
        due = self._state.event_timers.next_fire()
        if due is not None and due <= self.watermark:
            return MIN_MICROS  # it was set behind the watermark, which may not move for long
        return self._state.clock_timers.next_fire()

    def hold(self) -> int:
        return min(self._state.event_timers.hold(), self._state.clock_timers.hold())

    def snapshot(self, whole: bool) -> RootSnapshot:
        return self._state.snapshot(whole, self._expired)

    def restore(self, state: RootState) -> None:
        self._state.restore(state)
        self._state.expire(self.watermark, self._lateness)

    def _expired(self, ttl: Any) -> Callable[[int], bool]:
        """Whether what was last written at an instant (ms) is past its time to live."""
        if ttl.event_time:
            pending = self._state.event_timers.next_fire()  # what is not yet fired looks from its own time
            now = self.watermark if pending is None else min(self.watermark, pending)
        else:
            now = self._context.clock.now_micros()
        bound = now // 1000 - ttl.ms
        return lambda instant: instant <= bound

    def close(self) -> None:
        with naming(self.op.step.name, self._context):
            self._state.close()
        super().close()
