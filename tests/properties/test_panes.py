"""Panes of our driver equal those of Beam's ``GeneralTriggerDriver``, its slow twin, on random streams."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.core import Windowing
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import (
    AccumulationMode,
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterWatermark,
    Always,
    DefaultTrigger,
    GeneralTriggerDriver,
    InMemoryUnmergedState,
    Repeatedly,
)
from apache_beam.transforms.window import FixedWindows, Sessions, SlidingWindows, TimestampCombiner, WindowFn
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.engine.operators.base.context import VirtualClock
from sage.runners.engine.operators.grouping.trigger_runner import KeyWindows, TriggerRunner

COUNTS = st.integers(1, 4).map(AfterCount)
TRIGGERS = st.recursive(
    st.one_of(COUNTS, st.just(DefaultTrigger()), st.just(Always()), st.just(AfterWatermark())),
    lambda inner: st.one_of(
        inner.map(Repeatedly),
        st.tuples(inner, inner).map(lambda pair: AfterAny(*pair)),
        st.tuples(inner, inner).map(lambda pair: AfterAll(*pair)),
        st.tuples(inner, inner).map(lambda pair: AfterEach(*pair)),
        COUNTS.map(lambda early: AfterWatermark(early=Repeatedly(early))),
        COUNTS.map(lambda late: AfterWatermark(late=late)),
    ),
    max_leaves=4,
)
WINDOWS = st.sampled_from([FixedWindows(10), SlidingWindows(10, 5), Sessions(4)])
MODES = st.sampled_from([AccumulationMode.ACCUMULATING, AccumulationMode.DISCARDING])
STAMPS = st.sampled_from(
    [TimestampCombiner.OUTPUT_AT_EOW, TimestampCombiner.OUTPUT_AT_EARLIEST, TimestampCombiner.OUTPUT_AT_LATEST]
)
# Each event: some elements' seconds, and then how far the watermark moves on (s).
EVENTS = st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=4), st.integers(0, 12)), max_size=6)


def told(pane: WindowedValue) -> Any:
    info = pane.pane_info
    return (
        sorted(pane.value), pane.timestamp.micros, str(pane.windows),
        info.is_first, info.is_last, info.timing, info.index, info.nonspeculative_index,
    )  # fmt: skip


def beams(windowing: Any, events: Any) -> list[Any]:
    driver, state, out = GeneralTriggerDriver(windowing, None), InMemoryUnmergedState(), []
    for values, watermark in events:
        out += driver.process_elements(state, values, watermark.before, watermark.before)
        while due := sorted(state.get_and_clear_timers(watermark.after), key=lambda timer: timer[1][2]):
            for window, (name, domain, stamp, _) in due:
                out += driver.process_timer(window, name, domain, stamp, state, watermark.after)
    return [told(pane) for pane in out]


def ours(windowing: Any, events: Any) -> list[Any]:
    driver, key, out = TriggerRunner(windowing, VirtualClock()), KeyWindows(), []
    for values, watermark in events:
        out += driver.process(key, [(v.value, v.timestamp, v.windows) for v in values], watermark.before)
        while due := driver.due(key.windows.values(), watermark.after.micros, None):
            for window, domain, stamp in due:
                assert domain == TimeDomain.WATERMARK
                out += driver.fire(key, window, domain, stamp)
    return [told(pane) for pane in out]


class Marks:
    def __init__(self, before: Timestamp, after: Timestamp) -> None:
        self.before, self.after = before, after


@settings(max_examples=300, deadline=None)
@given(TRIGGERS, WINDOWS, MODES, STAMPS, st.sampled_from([0, 7]), EVENTS)
def test_panes_equal_beams(trigger: Any, fn: Any, mode: Any, stamps: Any, lateness: int, events: Any) -> None:
    windowing = Windowing(fn, trigger, mode, stamps, allowed_lateness=lateness)
    played, watermark, number = [], Timestamp(0), 0
    for index, (seconds, step) in enumerate(events):
        values = []
        for second in seconds:
            stamp = Timestamp(second)
            windows = tuple(fn.assign(WindowFn.AssignContext(stamp, number)))
            values.append(WindowedValue(number, stamp, windows))
            number += 1
        last = index == len(events) - 1
        after = MAX_TIMESTAMP if last else watermark + step
        played.append((values, Marks(watermark, after)))
        watermark = after
    assert sorted(ours(windowing, played), key=repr) == sorted(beams(windowing, played), key=repr)
