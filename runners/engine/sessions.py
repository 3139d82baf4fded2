"""Grouping by session windows under the default trigger: sessions are merged when the watermark passes their end.

Merging waits until a session can fire, and is then one pass over the key's sorted intervals: the same windows as
merging at each element, without a merge at each element.
"""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.trigger import DefaultTrigger
from apache_beam.transforms.window import IntervalWindow, Sessions, TimestampCombiner
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import TaskContext
from sage.runners.engine.gathered import Gathered
from sage.runners.engine.keys import KeyIds, key_coder
from sage.runners.engine.ops import Output, raise_step_error
from sage.runners.engine.root import Root
from sage.runners.engine.runs import Envelope
from sage.runners.engine.spec import CombinePerKey, Step

# The default trigger never says that a pane is the last: only a window function that is global says so.
PANE = PaneInfo(True, False, windowed_value.PaneInfoTiming.ON_TIME, 0, 0)

_ENVELOPE = Envelope(lambda part: part[2], lambda part, value: (part[0], part[1], value))


def groups_sessions(windowing: Any) -> bool:
    """Whether each session fires exactly once, at its end, with the end as the timestamp."""
    return bool(
        type(windowing.windowfn) is Sessions
        and isinstance(windowing.triggerfn, DefaultTrigger)
        and windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
        and windowing.allowed_lateness.micros == 0
    )


class SessionsRoot(Root):
    """State: for each key, its open intervals as (start, end, values), in microseconds, unmerged."""

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        source = context.collections[step.inputs[0]]
        self.step = step
        self._context = context
        self._output = output
        self._ids = KeyIds(key_coder(source.coder))
        self._open = Gathered(source, context.job.memory, _ENVELOPE)
        self._earliest = MAX_MICROS
        self._combine: Any = step.combine_fn if isinstance(step, CombinePerKey) else None

    def open(self) -> None:
        if self._combine is not None:
            self._combine.setup()

    def close(self) -> None:
        if self._combine is not None:
            self._combine.teardown()

    def process_block(self, port: int, block: Block) -> None:
        of, keys, opened, watermark = self._ids.of, self._open.keys, self._open.lists, self.watermark
        before = len(opened)
        known: dict[Any, tuple[int, int]] = {}
        try:
            for (key, value), _, windows, _ in block.rows():
                identity = of(key)
                for window in windows:
                    span = known.get(window)
                    if span is None:
                        span = known[window] = (window.start.micros, window.end.micros)
                    start, end = span
                    if end <= watermark:
                        continue  # too late: the session has been put out
                    if end < self._earliest:
                        self._earliest = end
                    found = opened.get(identity)
                    if found is None:
                        keys.setdefault(identity, key)
                        opened[identity] = [(start, end, value)]
                    else:
                        found.append((start, end, value))
            self._open.took(block.values, len(opened) - before)
        except Exception as error:
            raise_step_error(self.step.name, error, self._context)

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return watermark >= self._earliest

    def fire(self) -> None:
        self._earliest = MAX_MICROS
        rows: list[Any] = []
        stamps: list[Timestamp] = []
        windows: list[tuple[IntervalWindow]] = []
        for key, parts in self._open.drain():
            try:
                self._fire_key(key, parts, rows, stamps, windows)
            except Exception as error:
                raise_step_error(self.step.name, error, self._context)
            if len(rows) >= self._context.block_rows:
                self._output.receive_block(Block(rows, stamps, windows, PANE))
                rows, stamps, windows = [], [], []
        if rows:
            self._output.receive_block(Block(rows, stamps, windows, PANE))

    def _fire_key(
        self, key: Any, open_parts: list[Any], rows: list[Any], stamps: list[Any], windows: list[Any]
    ) -> None:
        kept = []
        for start, end, parts in _merged(open_parts):
            if end > self.watermark:
                kept += parts
                self._earliest = min(self._earliest, end)
                continue
            window = IntervalWindow(Timestamp(micros=start), Timestamp(micros=end))
            values = [value for _, _, value in parts]
            rows.append((key, values if self._combine is None else self._combine.apply(values)))
            stamps.append(window.max_timestamp())
            windows.append((window,))
        if kept:
            self._open.put_back(self._ids.of(key), key, kept)


def _merged(parts: list[tuple[int, int, Any]]) -> list[tuple[int, int, list[tuple[int, int, Any]]]]:
    """Overlapping intervals as one: (start, end, the parts), in order of time.

    Two sessions that only touch stay two, as Beam's ``Sessions.merge`` has it.
    """
    order = sorted(range(len(parts)), key=lambda i: parts[i][:2])
    merged: list[tuple[int, int, list[int]]] = []
    for i in order:
        start, end, _ = parts[i]
        if merged and start < merged[-1][1]:
            first, last, members = merged[-1]
            members.append(i)
            merged[-1] = (first, max(last, end), members)
        else:
            merged.append((start, end, [i]))
    # Values keep the order in which they came.
    return [(start, end, [parts[i] for i in sorted(members)]) for start, end, members in merged]
