"""What waits for side inputs, and the side inputs themselves, go on from snapshots as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from typing import Any

from apache_beam import coders
from apache_beam.pvalue import SideInputData
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.sideinputs import default_window_mapping_fn
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, DefaultTrigger, Repeatedly
from apache_beam.transforms.window import FixedWindows, IntervalWindow
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.core.keys import KeyIds
from sage.runners.engine.operators.base.operator import Output
from sage.runners.engine.operators.base.root import Root
from sage.runners.engine.operators.grouping.group import GroupRoot
from sage.runners.engine.operators.side_inputs.gate import SideInputGate
from sage.runners.engine.operators.side_inputs.views import SideView, make_view
from tests.models.harness import INPUT, OUTPUT, Harness
from tests.models.recovery import Workers

SIDE = spec.CollectionId("side")
MAIN_WINDOWS = Windowing(FixedWindows(10))
KEYS = st.sampled_from(["a", "b", "c", 1, 1.5])
SECONDS = st.integers(0, 39)
ACTIONS = st.one_of(
    st.lists(st.tuples(KEYS, SECONDS), min_size=1, max_size=5).map(lambda found: ("main", found)),
    st.lists(SECONDS, min_size=1, max_size=4).map(lambda found: ("side", found)),
    st.integers(0, 50).map(lambda second: ("advance", second * 10**6)),
    st.integers(0, 50).map(lambda second: ("advance_side", second * 10**6)),
    st.integers(0, 30).map(lambda second: ("wake", second * 10**6)),
    st.booleans().map(lambda whole: ("snapshot", whole)),
    st.integers(1, 3).map(lambda count: ("crash", count)),
)
TRIGGERS = st.sampled_from([DefaultTrigger(), Repeatedly(AfterCount(2)), Repeatedly(AfterProcessingTime(3))])
MODES = st.sampled_from([AccumulationMode.ACCUMULATING, AccumulationMode.DISCARDING])
VIEWS = st.sampled_from([list, dict])


class Reader(Root):
    """Puts out each element with what it reads."""

    def __init__(self, output: Output, view: SideView) -> None:
        self._output = output
        self._view = view

    def process_block(self, port: int, block: Block) -> None:
        for (key, number), stamp, windows, pane in block.rows():
            for window in windows:
                row = (key, (number, repr(self._view[window])))
                self._output.receive_block(Block([row], stamp, (window,), pane))


class ReaderThatGroups(GroupRoot):
    """Groups each element with what it reads."""

    view: SideView

    def process_block(self, port: int, block: Block) -> None:
        for (key, number), stamp, windows, pane in block.rows():
            for window in windows:
                row = (key, (number, repr(self.view[window])))
                super().process_block(port, Block([row], stamp, (window,), pane))


class GatedWorkers(Workers):
    """Workers with a second port that all see the same of, with a watermark of its own."""

    side_mark = 0

    def side(self, seconds: list[int]) -> None:
        for harness in self.running:
            windows = [_windows(second) for second in seconds]
            stamps = [Timestamp(second) for second in seconds]
            harness.root.process_block(1, Block([(second % 3, second) for second in seconds], stamps, windows))

    def advance_side(self, watermark: int) -> None:
        if watermark > self.side_mark:
            self.side_mark = watermark
            for harness in self.running:
                assert isinstance(harness.root, SideInputGate)
                if harness.root.advance_side(1, watermark):
                    harness.root.fire()


def _windows(second: int) -> tuple[IntervalWindow]:
    start = second // 10 * 10
    return (IntervalWindow(start, start + 10),)


def played(workers: GatedWorkers, script: Any, interrupted: bool) -> Counter[str]:
    number = 0
    for what, how in [*script, ("advance_side", MAX_MICROS), ("advance", MAX_MICROS), ("wake", 10**9)]:
        if what == "main":
            # What comes too late is dropped by some workers and not by others: each goes by what it waits for.
            how = [(key, s) for key, s in how if _windows(s)[0].max_timestamp().micros >= workers.watermark]
            rows = [(key, number + offset) for offset, (key, _) in enumerate(how)]
            number += len(rows)
            workers.feed(Block(rows, [Timestamp(s) for _, s in how], [_windows(s) for _, s in how]))
        elif what not in ("snapshot", "crash") or interrupted:
            getattr(workers, what)(how)
    return Counter(map(repr, workers.rows()))


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=18), TRIGGERS, MODES, VIEWS, st.booleans())
def test_a_gate_goes_on(script: Any, trigger: Any, mode: Any, view_fn: Any, keyed: bool) -> None:
    windowing = Windowing(FixedWindows(10), trigger, mode)
    data = SideInputData("beam:side_input:iterable:v1", default_window_mapping_fn(windowing.windowfn), view_fn)
    side = spec.SideInput("side0", SIDE, data)
    step = spec.ParDo(spec.StepId("p"), "par", (INPUT,), {None: OUTPUT}, side_inputs=(side,), stateful=keyed)
    pairs = coders.TupleCoder([coders.FastPrimitivesCoder()] * 2)
    others = {SIDE: spec.Collection(SIDE, "side", pairs, windowing, bounded=False)}

    def root(output: Any, context: Any) -> SideInputGate:
        view = make_view(side, context)
        if not keyed:
            return SideInputGate(Reader(output, view), step, [view], context)
        inner = ReaderThatGroups(step, output, context)
        inner.view = view
        return SideInputGate(inner, step, [view], context)

    def make() -> Harness:
        return Harness(root, MAIN_WINDOWS, bounded=False, checkpoints=True, others=others)

    ids = KeyIds(coders.FastPrimitivesCoder())
    expected = played(GatedWorkers(make, ids), script, False)
    assert played(GatedWorkers(make, ids), script, True) == expected
