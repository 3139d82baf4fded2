"""Merging once, when windows fire, gives what merging at each element gives."""

from __future__ import annotations

from typing import Any

from apache_beam.coders.coders import Coder, IntervalWindowCoder
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.window import IntervalWindow, Sessions, WindowFn
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.operators.grouping.merging import MergingRoot, fires_once_merged
from sage.runners.engine.operators.grouping.triggered import TriggeredRoot
from tests.models.harness import INPUT, OUTPUT, Harness

STEP = spec.GroupByKey(spec.StepId("group"), "group", (INPUT,), {None: OUTPUT})


class ByTens(WindowFn):
    """A window of a second for each element; those within the same ten seconds merge."""

    def assign(self, assign_context: Any) -> list[IntervalWindow]:
        start = assign_context.timestamp
        return [IntervalWindow(start, start + 1)]

    def get_window_coder(self) -> Coder:
        return IntervalWindowCoder()

    def merge(self, merge_context: Any) -> None:
        tens: dict[int, list[Any]] = {}
        for window in merge_context.windows:
            tens.setdefault(window.start.micros // 10**7, []).append(window)
        for windows in tens.values():
            if len(windows) > 1:
                merge_context.merge(windows, IntervalWindow(min(w.start for w in windows), max(w.end for w in windows)))


ELEMENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=25)


def played(root: Any, windowing: Windowing, elements: list[tuple[str, int]], marks: list[int]) -> Any:
    harness = Harness(lambda output, context: root(STEP, output, context), windowing)
    for number, (key, second) in enumerate(elements):
        stamp = Timestamp(second)
        windows = tuple(windowing.windowfn.assign(WindowFn.AssignContext(stamp, number)))
        harness.root.process_block(0, Block([(key, number)], stamp, windows))
    for mark in [*marks, MAX_MICROS]:
        harness.advance(mark)
    return sorted((key, sorted(values), str(window)) for (key, values), window in harness.rows())


@settings(max_examples=150, deadline=None)
@given(ELEMENTS, st.lists(st.integers(0, 70).map(lambda second: second * 10**6), max_size=3).map(sorted))
def test_merging_at_the_end_equals_merging_at_each_element(elements: Any, marks: list[int]) -> None:
    for fn in (Sessions(3), ByTens()):
        windowing = Windowing(fn)
        assert fires_once_merged(windowing)
        # The twin gathers a bounded input and merges by Beam's rules at its end.
        assert played(MergingRoot, windowing, elements, marks) == played(TriggeredRoot, windowing, elements, [])
