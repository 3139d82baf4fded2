"""Grouping by merging windows under the default trigger: windows merge when the watermark may have passed one.

Merging waits until a window can fire, and is then one call of the window function for all of a key's windows: the
same windows as merging at each element, without a merge at each element.
"""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.trigger import DefaultTrigger
from apache_beam.transforms.window import IntervalWindow, Sessions, TimestampCombiner, WindowFn
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.blocks import MAX_MICROS, Block
from sage.runners.engine.context import TaskContext
from sage.runners.engine.failures import RAISED, raise_step_error
from sage.runners.engine.grouping.gathered import Gathered
from sage.runners.engine.grouping.paneroot import PaneRoot
from sage.runners.engine.ops import Output
from sage.runners.engine.spec import Step
from sage.runners.engine.spilling.runs import Envelope

# The default trigger never says that a pane is the last: only a window function that is global says so.
PANE = PaneInfo(True, False, windowed_value.PaneInfoTiming.ON_TIME, 0, 0)

_ENVELOPE = Envelope(lambda part: part[1], lambda part, value: (part[0], value))


def fires_once_merged(windowing: Any) -> bool:
    """Whether each merged window fires exactly once, at its end, with the end as the timestamp."""
    return bool(
        windowing.windowfn.is_merging()
        and isinstance(windowing.triggerfn, DefaultTrigger)
        and windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
        and windowing.allowed_lateness.micros == 0
    )


class MergingRoot(PaneRoot):
    """State: for each key, its open windows and the value in each, as (window, value), in order of arrival."""

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        super().__init__(step, output, context)
        source = context.collections[step.inputs[0]]
        self._windowfn = source.windowing.windowfn
        self._open = Gathered(source, context.job.memory, _ENVELOPE)
        self._earliest = MAX_MICROS

    def process_block(self, port: int, block: Block) -> None:
        of, keys, opened, watermark = self._ids.of, self._open.keys, self._open.lists, self.watermark
        before = len(opened)
        ends: dict[Any, int] = {}
        try:
            for (key, value), _, windows, _ in block.rows():
                identity = of(key)
                for window in windows:
                    end = ends.get(window)
                    if end is None:
                        end = ends[window] = window.max_timestamp().micros
                        if watermark <= end < self._earliest:
                            self._earliest = end
                    if end < watermark:
                        continue  # too late: the window has been put out
                    found = opened.get(identity)
                    if found is None:
                        keys.setdefault(identity, key)
                        opened[identity] = [(window, value)]
                    else:
                        found.append((window, value))
            self._open.took(block.values, len(opened) - before)
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context, keyed=True)

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        return watermark > self._earliest

    def fire(self) -> None:
        self._earliest = MAX_MICROS
        rows: list[Any] = []
        stamps: list[Timestamp] = []
        windows: list[tuple[Any, ...]] = []
        for key, parts in self._open.drain():
            try:
                self._fire_key(key, parts, rows, stamps, windows)
            except RAISED as error:
                raise_step_error(self.step.name, error, self._context)
            if len(rows) >= self._context.block_rows:
                self._output.receive_block(Block(rows, stamps, windows, PANE))
                rows, stamps, windows = [], [], []
        if rows:
            self._output.receive_block(Block(rows, stamps, windows, PANE))

    def _fire_key(
        self, key: Any, open_parts: list[Any], rows: list[Any], stamps: list[Any], windows: list[Any]
    ) -> None:
        into = merged_windows(self._windowfn, {window for window, _ in open_parts})
        values: dict[Any, list[Any]] = {}
        for window, value in open_parts:
            values.setdefault(into[window], []).append(value)
        kept = []
        for window, gathered in values.items():
            stamp = window.max_timestamp()
            if stamp.micros >= self.watermark:
                kept += [(window, value) for value in gathered]
                self._earliest = min(self._earliest, stamp.micros)
                continue
            rows.append((key, self.result(gathered)))
            stamps.append(stamp)
            windows.append((window,))
        if kept:
            self._open.put_back(self._ids.of(key), key, kept)


def merged_windows(fn: WindowFn, windows: set[Any]) -> dict[Any, Any]:
    """The window that each of a key's windows merges into; itself where it does not."""
    if type(fn) is Sessions:
        return _merged_sessions(windows)
    into = {window: window for window in windows}

    class Merges(WindowFn.MergeContext):
        def merge(self, to_be_merged: Any, merge_result: Any) -> None:
            gone = set(to_be_merged)
            for window, target in into.items():
                if target in gone:
                    into[window] = merge_result

    fn.merge(Merges(list(windows)))
    return into


def _merged_sessions(windows: set[Any]) -> dict[Any, Any]:
    """Sessions in whole microseconds; two that only touch stay two, as Beam's ``Sessions.merge`` has it."""
    spans = sorted((window.start.micros, window.end.micros, index) for index, window in enumerate(windows))
    places = list(windows)
    into: dict[Any, Any] = {}
    members: list[int] = []
    first = last = 0
    for start, end, index in spans:
        if members and start >= last:
            _close_session(into, places, members, first, last)
            members = []
        first, last = (start, end) if not members else (first, max(last, end))
        members.append(index)
    _close_session(into, places, members, first, last)
    return into


def _close_session(into: dict[Any, Any], places: list[Any], members: list[int], first: int, last: int) -> None:
    if len(members) == 1:
        into[places[members[0]]] = places[members[0]]
        return
    merged = IntervalWindow(Timestamp(micros=first), Timestamp(micros=last))
    for index in members:
        into[places[index]] = merged
