"""Every kind of grouping goes on from snapshots, whole ones and changes, as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from apache_beam import coders
from apache_beam.transforms.core import CombineFn, Windowing
from apache_beam.transforms.trigger import (
    AccumulationMode,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    DefaultTrigger,
    Repeatedly,
)
from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, SlidingWindows, WindowFn
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.core.keys import KeyIds
from sage.runners.engine.operators.grouping.combine import MergeRoot
from sage.runners.engine.operators.grouping.group import GroupRoot
from sage.runners.engine.operators.grouping.merging import MergingRoot
from sage.runners.engine.operators.grouping.triggered import TriggeredRoot
from tests.models.harness import INPUT, OUTPUT, Harness
from tests.models.recovery import Workers

GROUP = spec.GroupByKey(spec.StepId("g"), "group", (INPUT,), {None: OUTPUT})
KEYS = st.sampled_from(["a", "b", 1, True, 1.5, ("x", 2), (1.0, "y"), None])
ELEMENTS = st.lists(st.tuples(KEYS, st.integers(0, 40), st.integers(-50, 50)), min_size=1, max_size=12)
ACTIONS = st.one_of(
    ELEMENTS.map(lambda found: ("feed", found)),
    st.integers(0, 45).map(lambda second: ("advance", second * 10**6)),
    st.integers(0, 30).map(lambda second: ("wake", second * 10**6)),
    st.booleans().map(lambda whole: ("snapshot", whole)),
    st.integers(1, 3).map(lambda count: ("crash", count)),
)
SCRIPTS = st.lists(ACTIONS, max_size=18)
LIMITS = st.sampled_from([None, None, 2_000])


class Mean(CombineFn):
    """The mean, with accumulators that are changed in place."""

    def create_accumulator(self, *args: Any, **kwargs: Any) -> Any:
        return [0, 0]

    def add_input(self, accumulator: Any, element: Any, *args: Any, **kwargs: Any) -> Any:
        accumulator[0] += element
        accumulator[1] += 1
        return accumulator

    def merge_accumulators(self, accumulators: Any, *args: Any, **kwargs: Any) -> Any:
        first, *others = accumulators
        for total, count in others:
            first[0] += total
            first[1] += count
        return first

    def extract_output(self, accumulator: Any, *args: Any, **kwargs: Any) -> Any:
        return tuple(accumulator)


MERGE = spec.MergeCombine(GROUP.id, "mean", (INPUT,), {None: OUTPUT}, combine_fn=Mean())
COMBINE = spec.CombinePerKey(GROUP.id, "mean", (INPUT,), {None: OUTPUT}, combine_fn=Mean())


def blocks_of(found: Any, windowing: Windowing, accumulators: bool) -> Block:
    assign = windowing.windowfn.assign
    stamps = [Timestamp(second) for _, second, _ in found]
    windows = [tuple(assign(WindowFn.AssignContext(stamp, None))) for stamp in stamps]
    return Block([(key, [value, 1] if accumulators else value) for key, _, value in found], stamps, windows)


def played(workers: Workers, script: Any, windowing: Windowing, interrupted: bool, accumulators: bool) -> Counter[str]:
    for what, how in [*script, ("advance", MAX_MICROS)]:
        if what == "feed":
            workers.feed(blocks_of(how, windowing, accumulators))
        elif what in ("advance", "wake") or interrupted:
            getattr(workers, what)(how)
    return Counter(
        repr((key, list(group) if isinstance(group, list) else group, stamp, windows, pane))
        for (key, group), stamp, windows, pane in workers.rows()
    )


def recovers(
    root: Callable[..., Any], step: Any, windowing: Windowing, script: Any, bounded: bool = True, limit: Any = None
) -> None:
    """Plays a script twice, once without its snapshots and crashes, and compares."""

    def make() -> Harness:
        return Harness(
            lambda output, context: root(step, output, context), windowing, limit, bounded=bounded, checkpoints=True
        )

    ids = KeyIds(coders.FastPrimitivesCoder())
    plain, torn = Workers(make, ids), Workers(make, ids)
    accumulators = isinstance(step, spec.MergeCombine)
    expected = played(plain, script, windowing, False, accumulators)
    assert played(torn, script, windowing, True, accumulators) == expected


@settings(max_examples=150, deadline=None)
@given(SCRIPTS, LIMITS)
def test_a_grouping_by_window_goes_on(script: Any, limit: int | None) -> None:
    recovers(GroupRoot, GROUP, Windowing(SlidingWindows(10, 5)), script, limit=limit)


@settings(max_examples=150, deadline=None)
@given(SCRIPTS, LIMITS)
def test_a_combine_by_window_goes_on(script: Any, limit: int | None) -> None:
    recovers(MergeRoot, MERGE, Windowing(FixedWindows(10)), script, limit=limit)


@settings(max_examples=150, deadline=None)
@given(SCRIPTS, LIMITS, st.booleans(), st.sampled_from([GROUP, COMBINE]))
def test_a_grouping_by_merging_windows_goes_on(script: Any, limit: int | None, bounded: bool, step: Any) -> None:
    recovers(MergingRoot, step, Windowing(Sessions(4)), script, bounded, limit)


TRIGGERS = st.sampled_from(
    [
        DefaultTrigger(),
        Repeatedly(AfterCount(3)),
        Repeatedly(AfterProcessingTime(5)),
        AfterWatermark(early=AfterCount(2), late=AfterCount(1)),
        AfterWatermark(early=AfterProcessingTime(3)),
        Repeatedly(AfterAny(AfterCount(4), AfterProcessingTime(7))),
        AfterEach(AfterCount(1), AfterCount(2), Repeatedly(AfterCount(3))),
        AfterCount(2),
    ]
)
WINDOWS = st.sampled_from([GlobalWindows(), FixedWindows(10), SlidingWindows(10, 5), Sessions(4)])
MODES = st.sampled_from([AccumulationMode.ACCUMULATING, AccumulationMode.DISCARDING])


@settings(max_examples=400, deadline=None)
@given(SCRIPTS, TRIGGERS, WINDOWS, MODES, st.sampled_from([0, 7]), st.sampled_from([GROUP, COMBINE]), st.booleans())
def test_a_grouping_under_any_trigger_goes_on(
    script: Any, trigger: Any, fn: Any, mode: Any, lateness: int, step: Any, bounded: bool
) -> None:
    windowing = Windowing(fn, trigger, mode, allowed_lateness=lateness)
    recovers(TriggeredRoot, step, windowing, script, bounded)
