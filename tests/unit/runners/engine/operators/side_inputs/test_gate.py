"""Side inputs of streams: which pane is read, from when on, and what is forgotten."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pvalue import AsDict, AsIter, AsList, AsMultiMap, AsSingleton, SideInputData
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.sideinputs import default_window_mapping_fn
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, Repeatedly
from apache_beam.transforms.window import FixedWindows, GlobalWindows, IntervalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.operators.base.root import PassRoot
from sage.runners.engine.operators.side_inputs.gate import SideInputGate
from sage.runners.engine.operators.side_inputs.views import SideView, make_view
from sage.runners.local import LocalRunner
from tests.models.harness import INPUT, OUTPUT, Harness

SIDE = spec.CollectionId("side")
BY_COUNT, BY_CLOCK = Repeatedly(AfterCount(1)), Repeatedly(AfterProcessingTime(1))
MODES = [AccumulationMode.DISCARDING, AccumulationMode.ACCUMULATING]


def streams() -> TestStream:
    return TestStream(coder=coders.FastPrimitivesCoder(), output_tags=["main", "side"])


def joined(stream: TestStream, side: Any, view: Any, expected: list[Any], main: Any = None) -> None:
    """Each element of the main stream with the view that it reads."""
    with beam.Pipeline(LocalRunner(), PipelineOptions()) as p:
        p.options.view_as(StandardOptions).streaming = True
        both = p | stream
        left = both["main"] | "main" >> (main or beam.WindowInto(GlobalWindows()))
        right = view(both["side"] | "side" >> side)
        pairs = left | beam.Map(lambda value, read: (value, list(read) if hasattr(read, "send") else read), right)
        assert_that(pairs, equal_to(expected))


def ends(stream: TestStream) -> TestStream:
    stream.advance_watermark_to_infinity(tag="side")
    stream.advance_watermark_to_infinity(tag="main")
    return stream


def refreshed() -> TestStream:
    stream = streams()
    stream.add_elements(["early"], tag="main")
    stream.add_elements([("x", 1)], tag="side")
    stream.advance_processing_time(2)
    stream.add_elements(["between"], tag="main")
    stream.add_elements([("x", 2), ("y", 3)], tag="side")
    stream.advance_processing_time(2)
    stream.add_elements(["late"], tag="main")
    return ends(stream)


def over_everything(trigger: Any, mode: Any) -> Any:
    return beam.WindowInto(GlobalWindows(), trigger=trigger, accumulation_mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trigger", [BY_COUNT, BY_CLOCK])
def test_a_singleton_is_its_latest_pane(trigger: Any, mode: Any) -> None:
    expected = [("early", ("x", 1)), ("between", ("x", 1)), ("late", ("y", 3))]
    joined(refreshed(), over_everything(trigger, mode), AsSingleton, expected)


@pytest.mark.parametrize(
    ("mode", "last"), [(MODES[0], {"x": 2, "y": 3}), (MODES[1], {"x": 2, "y": 3})], ids=["discarding", "accumulating"]
)
def test_a_dictionary_is_its_latest_pane(mode: Any, last: Any) -> None:
    expected = [("early", {"x": 1}), ("between", {"x": 1}), ("late", last)]
    joined(refreshed(), over_everything(BY_CLOCK, mode), AsDict, expected)


@pytest.mark.parametrize(("mode", "before"), [(MODES[0], []), (MODES[1], [("x", 1)])], ids=["discard", "accumulate"])
@pytest.mark.parametrize("view", [AsList, AsIter])
def test_a_list_has_what_its_mode_says(view: Any, mode: Any, before: Any) -> None:
    first = [("x", 1)]
    expected = [("early", first), ("between", first), ("late", [*before, ("x", 2), ("y", 3)])]
    joined(refreshed(), over_everything(BY_CLOCK, mode), view, expected)


def test_a_multimap_is_its_latest_pane() -> None:
    side = over_everything(BY_CLOCK, AccumulationMode.ACCUMULATING)
    with beam.Pipeline(LocalRunner(), PipelineOptions(streaming=True)) as p:
        both = p | refreshed()
        right = AsMultiMap(both["side"] | "side" >> side)
        read = both["main"] | beam.Map(lambda value, read: (value, sorted(read["x"]), list(read["z"])), right)
        assert_that(read, equal_to([("early", [1], []), ("between", [1], []), ("late", [1, 2], [])]))


@pytest.mark.parametrize("mode", MODES)
def test_a_combine_that_fires_by_the_clock_is_read_as_it_changes(mode: Any) -> None:
    class LatestPane(beam.PTransform):
        def expand(self, side: Any) -> Any:
            windowed = side | over_everything(BY_CLOCK, mode)
            numbers = windowed | beam.Map(lambda pair: pair[1])
            return numbers | beam.CombineGlobally(sum).without_defaults()

    last = 5 if mode == AccumulationMode.DISCARDING else 6
    joined(refreshed(), LatestPane(), AsSingleton, [("early", 1), ("between", 1), ("late", last)])


def test_a_combine_that_fires_by_a_count_is_read_at_each_firing() -> None:
    """What was counted for the combine's pane is not counted again, whatever trigger Beam leaves behind it."""

    class Sums(beam.PTransform):
        def expand(self, side: Any) -> Any:
            numbers = side | over_everything(Repeatedly(AfterCount(2)), AccumulationMode.DISCARDING) | beam.Values()
            return numbers | beam.CombineGlobally(sum).without_defaults()

    stream = streams()
    for name, *numbers in (("a", 1, 2), ("b", 3, 4), ("c", 5, 6)):
        stream.add_elements([("x", number) for number in numbers], tag="side")
        stream.add_elements([name], tag="main")
    joined(ends(stream), Sums(), AsList, [("a", [3]), ("b", [7]), ("c", [11])])


def test_windows_are_read_each_by_itself_and_refreshed() -> None:
    stream = streams()
    stream.add_elements([TimestampedValue("a", 3), TimestampedValue("b", 13)], tag="main")
    stream.add_elements([TimestampedValue(1, 1), TimestampedValue(10, 11)], tag="side")
    stream.add_elements([TimestampedValue("c", 4)], tag="main")
    stream.add_elements([TimestampedValue(2, 2)], tag="side")
    stream.add_elements([TimestampedValue("d", 5), TimestampedValue("e", 15)], tag="main")
    side = beam.WindowInto(FixedWindows(10), trigger=BY_COUNT, accumulation_mode=AccumulationMode.DISCARDING)
    expected = [("a", 1), ("b", 10), ("c", 1), ("d", 2), ("e", 10)]
    joined(ends(stream), side, AsSingleton, expected, beam.WindowInto(FixedWindows(10)))


def test_without_a_trigger_a_view_is_there_when_its_window_is_over() -> None:
    stream = streams()
    stream.add_elements([TimestampedValue("a", 3)], tag="main")
    stream.add_elements([TimestampedValue(1, 1)], tag="side")
    stream.add_elements([TimestampedValue(2, 2)], tag="side")
    stream.advance_watermark_to(12, tag="side")
    stream.add_elements([TimestampedValue("b", 4)], tag="main")
    window = beam.WindowInto(FixedWindows(10))
    joined(ends(stream), window, AsList, [("a", [1, 2]), ("b", [1, 2])], window)


# One root by itself.

WINDOWING = Windowing(FixedWindows(10))


def side_of(windowing: Windowing) -> tuple[spec.SideInput, spec.Collection]:
    data = SideInputData("beam:side_input:iterable:v1", default_window_mapping_fn(windowing.windowfn), list)
    side = spec.SideInput("side0", SIDE, data)
    return side, spec.Collection(SIDE, "side", coders.FastPrimitivesCoder(), windowing, bounded=False)


class Marked(PassRoot):
    """Remembers the watermarks that it was told."""

    def __init__(self, output: Any) -> None:
        super().__init__(output)
        self.marks: list[int] = []

    def advance(self, watermark: int) -> bool:
        self.marks.append(watermark // 10**6)
        return super().advance(watermark)


def gated(windowing: Windowing = WINDOWING) -> tuple[Harness, SideView, Marked]:
    side, collection = side_of(windowing)
    step = spec.ParDo(spec.StepId("p"), "par", (INPUT,), {None: OUTPUT}, side_inputs=(side,))
    views: list[SideView] = []
    inner: list[Marked] = []

    def make(output: Any, context: Any) -> SideInputGate:
        views.append(make_view(side, context))
        inner.append(Marked(output))
        return SideInputGate(inner[0], step, views, context)

    harness = Harness(make, WINDOWING, bounded=False, others={SIDE: collection})
    return harness, views[0], inner[0]


def advance_side(harness: Harness, watermark: int) -> None:
    assert isinstance(harness.root, SideInputGate)
    if harness.root.advance_side(1, watermark):
        harness.root.fire()


def held(view: SideView) -> int:
    """How many windows a view holds."""
    return len(view.snapshot()[2])


def in_window(start: int, *values: Any) -> Block:
    return Block(list(values), Timestamp(start), (IntervalWindow(start, start + 10),))


def told(harness: Harness) -> list[Any]:
    return [value for value, _ in harness.rows()]


def test_views_of_windows_that_are_over_are_forgotten() -> None:
    harness, view, _ = gated()
    for start in range(0, 1000, 10):
        harness.root.process_block(1, in_window(start, start))
        advance_side(harness, (start + 10) * 10**6)
        harness.root.process_block(0, in_window(start, ("k", start)))
        harness.advance((start + 10) * 10**6)
        assert held(view) <= 2
    assert len(told(harness)) == 100


def test_what_waits_is_looked_at_only_when_a_window_of_it_opens() -> None:
    harness, _, _ = gated()
    root = harness.root
    assert isinstance(root, SideInputGate)
    root.process_block(0, in_window(0, "waits"))
    root.process_block(0, in_window(20, "waits longer"))
    assert [root.advance_side(1, end * 10**6) for end in (5, 9)] == [False, False]
    assert root.advance_side(1, 10 * 10**6)
    root.fire()
    assert [root.advance_side(1, end * 10**6) for end in (15, 29, 30)] == [False, False, True]
    root.fire()
    assert told(harness) == ["waits", "waits longer"]


def test_a_view_stays_while_an_element_waits_that_reads_it() -> None:
    harness, view, _ = gated()
    harness.root.process_block(1, in_window(0, "side"))
    harness.root.process_block(0, in_window(0, "waits"))
    harness.advance(50 * 10**6)
    assert held(view)
    assert not told(harness), "the side input may still bring more for the window"
    assert harness.root.hold() == 0
    advance_side(harness, 10 * 10**6)
    assert told(harness) == ["waits"]
    assert not held(view)


def test_what_comes_after_its_view_is_gone_is_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    harness, _, _ = gated()
    windows = [(IntervalWindow(0, 10),), (IntervalWindow(10, 20),)]
    advance_side(harness, 10 * 10**6)
    harness.advance(10 * 10**6)
    harness.root.process_block(0, in_window(0, "late"))
    harness.root.process_block(0, Block(["late", "live"], Timestamp(9), windows))
    advance_side(harness, 20 * 10**6)
    assert told(harness) == ["live"]
    assert [record.message for record in caplog.records] == [
        "step 'par': dropped 1 element as late, the first of this run: the watermark had passed the end of their "
        "windows, and the side input of these windows is gone. All that are dropped are counted as "
        "numLateRecordsDropped. To keep them, give their window an allowed_lateness, let the watermark wait longer for "
        "what is out of order (max_delay_ms of ReadFromKafka, the watermark of another source), correct their "
        "timestamps, or use sage.transforms.WindowWithLateOutput, which puts them out by themselves"
    ]
    assert harness.root.late is not None
    assert harness.root.late.count == 2


def test_the_watermark_behind_the_gate_never_goes_back() -> None:
    harness, _, inner = gated()
    advance_side(harness, 5 * 10**6)
    harness.advance(8 * 10**6)
    harness.root.process_block(0, in_window(0, "late, but its window is not over"))
    harness.advance(9 * 10**6)
    advance_side(harness, MAX_MICROS)
    harness.advance(MAX_MICROS)
    assert inner.marks[-1] == MAX_MICROS // 10**6
    assert inner.marks == sorted(inner.marks)


def test_what_waits_for_a_first_pane_goes_on_with_it() -> None:
    harness, _, inner = gated(Windowing(FixedWindows(10), BY_COUNT, AccumulationMode.DISCARDING))
    harness.root.process_block(0, in_window(0, "waits"))
    harness.advance(5 * 10**6)
    assert not told(harness)
    harness.root.process_block(1, in_window(0, "side"))
    harness.root.finish_bundle()
    assert told(harness) == ["waits"]
    assert inner.marks[-1] == 0
    harness.wake(0)
    assert inner.marks[-1] == 5
