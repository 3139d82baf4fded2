"""Groupings against their twin, with and without room in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apache_beam import coders
from apache_beam.transforms.core import CombineFn, Windowing
from apache_beam.transforms.window import FixedWindows, IntervalWindow
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.operators.grouping.combine import MergeRoot
from sage.runners.engine.operators.grouping.group import GroupRoot
from tests.models.grouping import Grouping
from tests.models.harness import INPUT, OUTPUT, Harness

STEP = spec.GroupByKey(spec.StepId("g"), "group", (INPUT,), {None: OUTPUT})
WINDOWING = Windowing(FixedWindows(10))
WINDOWS = [IntervalWindow(start, start + 10) for start in range(0, 40, 10)]
encode = coders.FastPrimitivesCoder().encode

plain = st.one_of(
    st.integers(-3, 3), st.booleans(), st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5]), st.text(max_size=2), st.none(),
    st.binary(max_size=2), st.integers(), st.sampled_from([2**61 - 1, 2 * (2**61 - 1)]),
)  # fmt: skip
keys = st.one_of(plain, st.tuples(plain, plain), st.tuples(plain), st.lists(plain, max_size=2))
values = st.one_of(plain, st.binary(max_size=300), st.lists(plain, max_size=3), st.tuples(plain, st.text(max_size=60)))
element = st.tuples(keys, values, st.sampled_from(WINDOWS))
actions = st.lists(
    st.one_of(st.lists(element, min_size=1, max_size=30), st.integers(0, 45_000_000)), min_size=1, max_size=25
)
limits = st.sampled_from([None, 0, 1_000, 20_000])


def blocks_of(elements: list[Any]) -> Iterator[Block]:
    """A block with a column of windows; and one that shares its window, where all have the same."""
    rows = [(key, value) for key, value, _ in elements]
    windows = [(window,) for _, _, window in elements]
    yield Block(rows, windows=windows[0] if len(set(windows)) == 1 else windows)


def by_window(rows: list[Any]) -> list[Any]:
    """Consecutive firings of one window as one (window, {encoded key: values}); each group is walked twice."""
    firings: list[Any] = []
    for (key, group), window in rows:
        if not firings or firings[-1][0] != window:
            firings.append((window, {}))
        name = encode(key)
        assert name not in firings[-1][1], "a key comes out of a window once"
        firings[-1][1][name] = list(group)
        assert len(group) == len(firings[-1][1][name])
        assert list(map(encode, group)) == list(map(encode, firings[-1][1][name]))
    return firings


def as_bytes(firings: list[Any]) -> list[Any]:
    return [(window, {key: list(map(encode, group)) for key, group in groups.items()}) for window, groups in firings]


@settings(max_examples=150, deadline=None)
@given(actions, limits)
def test_a_grouping_that_spills_is_the_grouping_of_one_dictionary(script: list[Any], limit: int | None) -> None:
    harness = Harness(lambda output, context: GroupRoot(STEP, output, context), WINDOWING, limit)
    twin = Grouping()
    for action in [*script, MAX_MICROS]:
        if isinstance(action, int):
            harness.advance(max(action, harness.root.watermark))
            twin.advance(action)
        else:
            for block in blocks_of(action):
                harness.root.process_block(0, block)
            for key, value, window in action:
                twin.add(window, key, value)
    assert as_bytes(by_window(harness.rows())) == as_bytes(twin.fired)
    memory = harness.job.memory
    assert memory.total == 0, "all that was counted in is counted out"
    harness.kept.blocks.clear()
    assert not harness.store.areas, "what nobody refers to is gone"


class SumAndCount(CombineFn):
    """Sum and count, as a pair."""

    def create_accumulator(self, *args: Any, **kwargs: Any) -> Any:
        return 0, 0

    def add_input(self, accumulator: Any, element: Any, *args: Any, **kwargs: Any) -> Any:
        return accumulator[0] + element, accumulator[1] + 1

    def merge_accumulators(self, accumulators: Any, *args: Any, **kwargs: Any) -> Any:
        found = list(accumulators)
        return sum(total for total, _ in found), sum(count for _, count in found)

    def extract_output(self, accumulator: Any, *args: Any, **kwargs: Any) -> Any:
        return list(accumulator)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(keys, st.integers(), st.sampled_from(WINDOWS)), min_size=1, max_size=30)), limits)
def test_a_combine_that_spills_is_the_sum_of_one_dictionary(bundles: list[Any], limit: int | None) -> None:
    step = spec.MergeCombine(STEP.id, "sum", (INPUT,), {None: OUTPUT}, combine_fn=SumAndCount())
    harness = Harness(lambda output, context: MergeRoot(step, output, context), WINDOWING, limit)
    expected: dict[Any, list[int]] = {}
    for bundle in bundles:
        for block in blocks_of([(key, (number, 1), window) for key, number, window in bundle]):
            harness.root.process_block(0, block)
        for key, number, window in bundle:
            total = expected.setdefault((window, encode(key)), [0, 0])
            total[0] += number
            total[1] += 1
    harness.advance(MAX_MICROS)
    assert {(window, encode(key)): result for (key, result), window in harness.rows()} == expected
    assert harness.job.memory.total == 0
