"""Sources that the engine itself knows: the test stream."""

from __future__ import annotations

from typing import Any

from apache_beam.testing.test_stream import (
    ElementEvent,
    ProcessingTimeEvent,
    TimingInfo,
    WatermarkEvent,
    WindowedValueHolder,
)
from apache_beam.utils.timestamp import Duration, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.errors import InvalidPipeline
from sage.runners.engine.core.blocks import GLOBAL_WINDOWS, MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.core.spec import TestStream
from sage.runners.engine.operators.base.context import TaskContext, VirtualClock
from sage.runners.engine.operators.base.failures import raise_step_error
from sage.runners.engine.operators.base.operator import Output
from sage.runners.engine.operators.base.root import Root, SourceRoot


class TestStreamRoot(SourceRoot):
    """Plays events one at a time: elements, watermarks by output, clock advances."""

    __test__ = False

    def __init__(self, step: TestStream, outputs: dict[str | None, Output], context: TaskContext) -> None:
        self._step = step
        self._context = context
        self._events = iter(step.events)
        self._outputs = outputs
        self._clock = context.clock
        self.watermarks: dict[str | None, int] = dict.fromkeys(outputs, MIN_MICROS)

    def poll(self) -> bool:
        event = self._next()
        if event is None:
            self.watermarks = dict.fromkeys(self._outputs, MAX_MICROS)
            return False
        if isinstance(event, ElementEvent):
            self._elements(event)
        elif isinstance(event, WatermarkEvent):
            tag = self._tag(event.tag)
            self.watermarks[tag] = max(self.watermarks[tag], Timestamp.of(event.new_watermark).micros)
        elif isinstance(event, ProcessingTimeEvent):
            if not isinstance(self._clock, VirtualClock):
                raise InvalidPipeline("a TestStream needs a virtual clock")
            self._clock.micros += Duration.of(event.advance_by).micros
        return True

    def _next(self) -> Any:
        try:
            return next(self._events, None)
        except Exception as error:
            raise_step_error(self._step.name, error, self._context)

    def _elements(self, event: ElementEvent) -> None:
        values = [_windowed(element) for element in event.timestamped_values]
        if values:
            self._outputs[self._tag(event.tag)].receive_block(Block.of(values))

    def _tag(self, tag: str | None) -> str | None:
        if tag in self._outputs:
            return tag
        return next(iter(self._outputs))


def _windowed(element: Any) -> WindowedValue:
    """An element in the global window, unless it says by Beam's holder which windows it has."""
    if isinstance(element.value, WindowedValueHolder):
        value: WindowedValue = element.value.windowed_value
        return value
    return WindowedValue(element.value, Timestamp.of(element.timestamp), GLOBAL_WINDOWS)


class TimingRoot(Root):
    """Pairs each element with the time at which it came, and the watermark as far as the element let it move.

    A block is kept until it is known whether a watermark came with it: what a window puts out at its end comes just
    before the watermark that ended it, and was not late then.
    """

    def __init__(self, output: Output, context: TaskContext) -> None:
        self._output = output
        self._clock = context.clock
        self._kept: list[Block] = []
        self._passed = MIN_MICROS

    def process_block(self, port: int, block: Block) -> None:
        if not self._kept:
            self._passed = self.watermark
        self._kept.append(block)

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return bool(self._kept)

    def wakeup(self) -> int | None:
        return self._clock.now_micros() if self._kept else None

    def hold(self) -> int:
        return min(map(_earliest, self._kept), default=MAX_MICROS)

    def fire(self) -> None:
        kept, self._kept = self._kept, []
        now = Timestamp(micros=self._clock.now_micros())
        for block in kept:
            self._passed = max(self._passed, min(self.watermark, _earliest(block) - 1))
            timing = TimingInfo(now, Timestamp(micros=self._passed))
            values = [(value, timing) for value in block.values]
            self._output.receive_block(Block(values, block.timestamps, block.windows, block.panes))


def _earliest(block: Block) -> int:
    stamps = block.timestamps
    return int(min(stamps).micros if isinstance(stamps, list) else stamps.micros)
