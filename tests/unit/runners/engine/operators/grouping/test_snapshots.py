"""What groupings tell snapshots: changes are as large as what changed, and a snapshot does not change afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from apache_beam import coders
from apache_beam.transforms.core import CombineFn, Windowing
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, Repeatedly
from apache_beam.transforms.window import FixedWindows, IntervalWindow, Sessions
from apache_beam.utils.timestamp import Timestamp

from sage.errors import StepError
from sage.runners.engine.checkpoint.snapshot import RootState
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.operators.grouping.combine import MergeRoot
from sage.runners.engine.operators.grouping.group import GroupRoot
from sage.runners.engine.operators.grouping.merging import MergingRoot
from sage.runners.engine.operators.grouping.rows import KeyedRows
from sage.runners.engine.operators.grouping.triggered import TriggeredRoot
from sage.runners.engine.serde.windows import WindowForms
from tests.models.harness import INPUT, OUTPUT, Harness

GROUP = spec.GroupByKey(spec.StepId("g"), "group", (INPUT,), {None: OUTPUT})
WINDOW = IntervalWindow(0, 10)
BY_COUNT = Windowing(FixedWindows(10), Repeatedly(AfterCount(1000)), AccumulationMode.DISCARDING)
ROOTS: list[tuple[Callable[..., Any], Windowing]] = [
    (GroupRoot, Windowing(FixedWindows(10))),
    (MergingRoot, Windowing(Sessions(10))),
    (TriggeredRoot, BY_COUNT),
]


def harness_of(root: Any, windowing: Windowing, step: Any = GROUP, checkpoints: bool = True) -> Harness:
    return Harness(
        lambda output, context: root(step, output, context), windowing, bounded=False, checkpoints=checkpoints
    )


def feed(harness: Harness, pairs: list[Any]) -> None:
    harness.root.process_block(0, Block(pairs, Timestamp(1), (WINDOW,)))
    harness.root.finish_bundle()


def restored(harness: Harness, chunks: list[bytes], root: Any, windowing: Windowing, step: Any = GROUP) -> Harness:
    again = harness_of(root, windowing, step)
    again.root.watermark = harness.root.watermark
    again.root.restore(RootState([chunks]))
    return again


@pytest.mark.parametrize(("root", "windowing"), ROOTS)
def test_a_change_is_as_large_as_what_changed(root: Any, windowing: Windowing) -> None:
    harness = harness_of(root, windowing)
    feed(harness, [(f"key {number}", f"{number:100}") for number in range(1000)])
    whole = harness.root.snapshot(True)
    feed(harness, [("key 1", "y")])
    change = harness.root.snapshot(False)
    assert whole.whole
    assert not change.whole
    assert len(change.keyed or b"") < 600 < 100_000 < len(whole.keyed or b"")
    nothing = harness.root.snapshot(False)
    assert nothing.keyed is None
    assert not nothing.whole


def test_a_list_that_grows_is_told_by_its_tail() -> None:
    harness = harness_of(GroupRoot, Windowing(FixedWindows(10)))
    feed(harness, [("hot", "x" * 1000)] * 1000)
    harness.root.snapshot(True)
    feed(harness, [("hot", "y")])
    assert len(harness.root.snapshot(False).keyed or b"") < 300


@pytest.mark.parametrize(("root", "windowing"), ROOTS)
def test_without_notes_every_snapshot_is_whole(root: Any, windowing: Windowing) -> None:
    harness = harness_of(root, windowing, checkpoints=False)
    feed(harness, [("a", 1)])
    harness.root.snapshot(False)
    feed(harness, [("b", 2)])
    found = harness.root.snapshot(False)
    assert found.whole
    again = restored(harness, [found.keyed or b""], root, windowing)
    again.advance(MAX_MICROS)
    assert sorted(value for value, _ in again.rows()) == [("a", [1]), ("b", [2])]


@pytest.mark.parametrize(("root", "windowing"), ROOTS)
def test_a_snapshot_does_not_change_with_the_values_it_was_taken_of(root: Any, windowing: Windowing) -> None:
    harness = harness_of(root, windowing)
    value = ["as it was"]
    feed(harness, [("a", value)])
    found = harness.root.snapshot(True)
    value.append("as it became")
    again = restored(harness, [found.keyed or b""], root, windowing)
    again.advance(MAX_MICROS)
    assert [pair for pair, _ in again.rows()] == [("a", [["as it was"]])]


class Broken(CombineFn):
    """Cannot merge."""

    def create_accumulator(self) -> Any:
        return 0

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return accumulator + element

    def merge_accumulators(self, accumulators: Any) -> Any:
        raise ArithmeticError("no merging")

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator


def test_a_function_that_fails_while_a_snapshot_is_taken_is_the_steps_error() -> None:
    step = spec.MergeCombine(GROUP.id, "my merge", (INPUT,), {None: OUTPUT}, combine_fn=Broken())
    harness = harness_of(MergeRoot, Windowing(FixedWindows(10)), step)
    feed(harness, [("a", 1), ("a", 2)])
    with pytest.raises(StepError, match="my merge"):
        harness.root.snapshot(False)


def test_keys_of_finished_windows_are_forgotten() -> None:
    harness = harness_of(GroupRoot, Windowing(FixedWindows(10)))
    root = harness.root
    assert isinstance(root, GroupRoot)
    for start in range(0, 2000, 10):
        pairs = [((start, number), 1) for number in range(10)]
        for window in (IntervalWindow(start, start + 10), IntervalWindow(start + 10, start + 20)):
            root.process_block(0, Block(list(pairs), Timestamp(start), (window,)))
        harness.advance((start + 10) * 10**6)
        root.snapshot(False)
    assert len(root.keys) < 100


class Place(NamedTuple):
    """A key of a special type."""

    name: str
    number: int


SCRIPT = """
import sys
from tests.unit.runners.engine.operators.grouping.test_snapshots import rows_of
keyed = rows_of()
for _, identity, key, values in keyed.unpack(sys.stdin.buffer.read(), None):
    assert identity == keyed.ids.of(key), (identity, key)
    print(repr((key, values)))
"""


def rows_of() -> KeyedRows:
    general = coders.FastPrimitivesCoder()
    source = spec.Collection(INPUT, "in", coders.TupleCoder([general, general]), Windowing(FixedWindows(10)))
    return KeyedRows(source, general)


def test_keys_of_any_type_have_their_identity_in_another_process() -> None:
    rows = rows_of()
    keys = ["a", 1, True, 1.0, None, ("a", 1), ("a", 1.0), Place("here", 1), [1, "x"], {"k": 1}, frozenset({"p", "q"})]
    identities = {rows.ids.of(key): key for key in keys}
    data = rows.pack(list(identities), identities.__getitem__, [[key, {"of": key}] for key in identities.values()])
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": path}
    told = subprocess.run([sys.executable, "-c", SCRIPT], input=data, capture_output=True, env=environment, check=False)
    assert told.returncode == 0, told.stderr.decode()
    found = set(told.stdout.decode().splitlines())
    for key in keys[:-1]:
        assert repr((key, [key, {"of": key}])) in found
    assert len(found) == len(keys)


def test_windows_keep_their_microseconds() -> None:
    forms = WindowForms(FixedWindows(10))
    window = IntervalWindow(Timestamp(micros=1), Timestamp(micros=2_500_001))
    assert forms.window(forms.form(window)) == window
