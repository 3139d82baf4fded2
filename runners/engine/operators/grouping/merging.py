"""Grouping by merging windows under the default trigger: windows merge when the watermark may have passed one.

Merging waits until a window can fire, and is then one call of the window function for all of a key's windows: the
same windows as merging at each element, without a merge at each element.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from apache_beam.transforms.trigger import DefaultTrigger
from apache_beam.transforms.window import IntervalWindow, Sessions, TimestampCombiner, WindowFn
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo

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
from sage.runners.engine.serde.values import Envelope
from sage.runners.engine.serde.windows import WindowForms

# The default trigger never says that a pane is the last: only a window function that is global says so.
PANE = PaneInfo(True, False, windowed_value.PaneInfoTiming.ON_TIME, 0, 0)
CROWDED = 64


def fires_once_merged(windowing: Any) -> bool:
    """Whether each merged window fires exactly once, at its end, with the end as the timestamp."""
    return bool(
        windowing.windowfn.is_merging()
        and isinstance(windowing.triggerfn, DefaultTrigger)
        and windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
        and windowing.allowed_lateness.micros == 0
    )


class MergingRoot(PaneRoot):
    """State: for each key its open windows and what is in each, as (window, value), in order of arrival; and when the
    first window of each key ends.

    A combine over an unbounded input holds an accumulator in place of each value, and makes one of those whose windows
    merge once they are many.
    """

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        super().__init__(step, output, context)
        self._windowfn = self._source.windowing.windowfn
        self._gathers = self._combine is not None and not self._bounded
        contents = self._contents_coder if self._gathers else value_coder(self._source.coder)
        forms = WindowForms(self._windowfn)
        item = Item(
            Envelope(lambda part: part[1], lambda part, value: (part[0], value)),
            lambda part: forms.form(part[0]),
            lambda rest, value: (forms.window(rest), value),
        )
        self._open = SpillableTable(self._source, contents, item, context.job)
        if self._gathers:
            self._open.joined = self._joined
        self._due = DeadlineQueue()
        self._most: dict[Any, int] = {}

    def process_block(self, port: int, block: Block) -> None:
        of, keys, opened, watermark = self._ids.of, self._open.keys, self._open.lists, self.watermark
        times, due, gathers, first = self._due.times, self._due, self._gathers, self._contents.first
        before = len(opened)
        ends: dict[Any, int] = {}
        crowded: set[Any] = set()
        late = 0
        try:
            for (key, value), _, windows, _ in block.rows():
                identity = of(key)
                for window in windows:
                    end = ends.get(window)
                    if end is None:
                        end = ends[window] = window.max_timestamp().micros
                    if end < watermark:  # the window has been put out
                        late += 1
                        continue
                    known = times.get(identity)
                    if known is None or end < known:
                        due.set(identity, end)
                    part = (window, first(value) if gathers else value)
                    found = opened.get(identity)
                    if found is None:
                        keys.setdefault(identity, key)
                        opened[identity] = [part]
                    else:
                        found.append(part)
                        if gathers and len(found) > CROWDED:
                            crowded.add(identity)
            if len(opened) > before:
                self._ids.check(list(islice(reversed(opened), len(opened) - before)))
            for identity in crowded:
                self._thin_out(identity)
            self._open.added(block.values, len(opened) - before)
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context, keyed=True)
        if late:
            self.late.drop(late)

    def _thin_out(self, identity: Any) -> None:
        """Makes one accumulator of those of a key whose windows merge."""
        parts = self._open.lists[identity]
        if len(parts) > self._most.get(identity, 0):
            merged = self._open.lists[identity] = self._thinned(parts)
            # A key that has many open windows is looked at again only when it has twice as many parts.
            if len(merged) > CROWDED // 2:
                self._most[identity] = 2 * len(merged)
            else:
                self._most.pop(identity, None)

    def _thinned(self, parts: list[Any]) -> list[Any]:
        return [(window, self._contents.merged(contents)) for window, contents in self._by_window(parts).items()]

    def _joined(self, contents: list[Any], parts: list[Any]) -> list[Any]:
        contents += parts
        return self._thinned(contents) if len(contents) > CROWDED else contents

    def _by_window(self, parts: list[Any]) -> dict[Any, list[Any]]:
        """What is in each window when all have merged."""
        into = merged_windows(self._windowfn, {window for window, _ in parts})
        values: dict[Any, list[Any]] = {}
        for window, value in parts:
            values.setdefault(into[window], []).append(value)
        return values

    def advance(self, watermark: int) -> bool:
        self.watermark = watermark
        end = self._due.earliest()
        return end is not None and watermark > end

    def _ready(self) -> Iterator[tuple[Any, list[Any]]]:
        """Takes out the keys that may have a window to fire; all of them where they cannot be told apart."""
        if self._open.spilled or self.watermark >= MAX_MICROS:
            self._due.clear()
            yield from self._open.drain()
        else:
            yield from map(self._open.take, self._due.pop_due(self.watermark - 1))

    def fire(self) -> None:
        rows: list[Any] = []
        stamps: list[Timestamp] = []
        windows: list[tuple[Any, ...]] = []
        for key, parts in self._ready():
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
        self, key: Any, parts: list[Any], rows: list[Any], stamps: list[Any], windows: list[Any]
    ) -> None:
        kept = []
        first = MAX_MICROS
        for window, gathered in self._by_window(parts).items():
            stamp = window.max_timestamp()
            if stamp.micros >= self.watermark:
                kept += [(window, value) for value in gathered]
                first = min(first, stamp.micros)
                continue
            rows.append((key, self._result(gathered)))
            stamps.append(stamp)
            windows.append((window,))
        identity = self._ids.of(key)
        self._most.pop(identity, None)
        if kept:
            self._open.put_back(identity, key, kept)
            self._due.set(identity, first)

    def _result(self, gathered: list[Any]) -> Any:
        """What a pane of these values, or of these accumulators, has."""
        if self._gathers:
            return self._contents.result(self._contents.merged(gathered))
        return gathered if self._combine is None else self._combine.apply(gathered)

    def snapshot(self, whole: bool) -> RootSnapshot:
        try:
            return self._open.snapshot(whole)
        except RAISED as error:
            raise_step_error(self.step.name, error, self._context)

    def restore(self, state: RootState) -> None:
        self._open.restore(state)
        for identity, parts in self._open.items():
            first = min(int(window.max_timestamp().micros) for window, _ in parts)
            self._due.set(identity, min(first, self._due.times.get(identity, first)))
        self._open.weigh()


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
