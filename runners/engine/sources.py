"""Sources that the engine itself knows: the test stream."""

from __future__ import annotations

from typing import Any

from apache_beam.testing.test_stream import ElementEvent, ProcessingTimeEvent, WatermarkEvent
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Duration, Timestamp

from sage.errors import InvalidPipeline
from sage.runners.engine.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.context import TaskContext, VirtualClock
from sage.runners.engine.ops import Output
from sage.runners.engine.root import SourceRoot
from sage.runners.engine.spec import TestStream


class TestStreamRoot(SourceRoot):
    """Plays events one at a time: elements, watermarks by output, clock advances."""

    __test__ = False

    def __init__(self, step: TestStream, outputs: dict[str | None, Output], context: TaskContext) -> None:
        self._events = list(reversed(step.events))
        self._outputs = outputs
        self._clock = context.clock
        self.watermarks: dict[str | None, int] = dict.fromkeys(outputs, MIN_MICROS)

    def poll(self) -> bool:
        if not self._events:
            self.watermarks = dict.fromkeys(self._outputs, MAX_MICROS)
            return False
        event = self._events.pop()
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

    def _elements(self, event: ElementEvent) -> None:
        values = event.timestamped_values
        stamps: list[Any] = [Timestamp.of(v.timestamp) for v in values]
        windowed = [getattr(v, "windows", None) for v in values]
        if any(windowed):
            windows: Any = [tuple(w) if w else GlobalWindows.windowed_value(None).windows for w in windowed]
            block = Block([v.value for v in values], stamps, windows)
        else:
            block = Block([v.value for v in values], stamps)
        if values:
            self._outputs[self._tag(event.tag)].receive_block(block)

    def _tag(self, tag: str | None) -> str | None:
        if tag in self._outputs:
            return tag
        return next(iter(self._outputs))
