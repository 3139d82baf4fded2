"""The corpus: what depends on keys and on time. Windows, triggers, state, timers, splittable DoFns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder, StrUtf8Coder, VarIntCoder
from apache_beam.coders.coders import IntervalWindowCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms import trigger, userstate, window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import Duration, Timestamp

from tests.conformance.cases import case, stamped, stream

P = beam.Pipeline
C = beam.PCollection[Any]
STAMPED = [(("a", 1), 1), (("b", 2), 2), (("a", 3), 8), (("a", 4), 12), (("b", 5), 29)]
PAIRS = [("a", 1), ("b", 2), ("a", 3)]


class TellWindow(beam.DoFn):
    def process(self, element: Any, where: Any = beam.DoFn.WindowParam) -> Iterable[Any]:
        key, value = element
        yield (key, sorted(value) if not isinstance(value, int) else value, int(where.start), int(where.end))


def windowed_groups(p: P, fn: Any, **how: Any) -> C:
    return p | stamped(STAMPED) | beam.WindowInto(fn, **how) | beam.GroupByKey() | beam.ParDo(TellWindow())


@case([("a", [1, 3], 0, 10), ("a", [4], 10, 20), ("b", [2], 0, 10), ("b", [5], 20, 30)])
def fixed_windows(p: P) -> C:
    return windowed_groups(p, window.FixedWindows(10))


@case(
    [
        *[("a", [1, 3], 0, 10), ("a", [1], -5, 5), ("a", [3, 4], 5, 15), ("a", [4], 10, 20)],
        *[("b", [2], -5, 5), ("b", [2], 0, 10), ("b", [5], 20, 30), ("b", [5], 25, 35)],
    ]
)
def sliding_windows(p: P) -> C:
    return windowed_groups(p, window.SlidingWindows(10, 5))


@case([("a", [1], 1, 6), ("a", [3, 4], 8, 17), ("b", [2], 2, 7), ("b", [5], 29, 34)])
def sessions(p: P) -> C:
    return windowed_groups(p, window.Sessions(5))


@case([("a", 1, 1, 6), ("a", 7, 8, 17), ("b", 2, 2, 7), ("b", 5, 29, 34)])
def combine_in_sessions(p: P) -> C:
    sums = p | stamped(STAMPED) | beam.WindowInto(window.Sessions(5)) | beam.CombinePerKey(sum)
    return sums | beam.ParDo(TellWindow())


class JoinTouching(window.NonMergingWindowFn):
    """Windows of five seconds; those that touch become one."""

    def assign(self, context: Any) -> list[window.IntervalWindow]:
        start = context.timestamp - context.timestamp % 5
        return [window.IntervalWindow(start, start + 5)]

    def is_merging(self) -> bool:
        return True

    def merge(self, context: Any) -> None:
        run: list[Any] = []
        for one in [*sorted(context.windows), None]:
            if run and (one is None or one.start > run[-1].end):
                if len(run) > 1:
                    context.merge(run, window.IntervalWindow(run[0].start, run[-1].end))
                run = []
            run.append(one)

    def get_window_coder(self) -> Any:
        return IntervalWindowCoder()


@case([("a", [1, 3, 4], 0, 15), ("b", [2], 0, 5), ("b", [5], 25, 30)])
def custom_merging_windows(p: P) -> C:
    return windowed_groups(p, JoinTouching())


@case([("a", [1, 3, 4]), ("b", [2, 5])])
def trigger_on_a_batch(p: P) -> C:
    """A batch is there at once: a trigger that counts fires once for all of it."""
    windowed = p | stamped(STAMPED) | beam.WindowInto(
        window.GlobalWindows(),
        trigger=trigger.Repeatedly(trigger.AfterCount(2)),
        accumulation_mode=trigger.AccumulationMode.DISCARDING,
    )
    return windowed | beam.GroupByKey() | beam.MapTuple(lambda key, values: (key, sorted(values)))


class TellPane(beam.DoFn):
    def process(self, element: Any, pane: Any = beam.DoFn.PaneInfoParam) -> Iterable[Any]:
        yield (sorted(element[1]), pane.index, pane.timing, pane.is_last)


EARLY, ON_TIME, LATE = range(3)
EARLY_AND_LATE = trigger.AfterWatermark(early=trigger.AfterCount(2), late=trigger.AfterCount(1))


def panes(p: P, how: trigger.AccumulationMode) -> C:
    events = stream(0, [(("k", 1), 1)], [(("k", 2), 2)], [(("k", 3), 3)], 11, [(("k", 4), 4)], 40, [(("k", 5), 5)])
    windowed = p | events | beam.WindowInto(
        window.FixedWindows(10), trigger=EARLY_AND_LATE, accumulation_mode=how, allowed_lateness=20
    )  # fmt: skip
    return windowed | beam.GroupByKey() | beam.ParDo(TellPane())


@case([([1, 2], 0, EARLY, False), ([3], 1, ON_TIME, False), ([4], 2, LATE, False)], streamed=True)
def panes_that_discard(p: P) -> C:
    return panes(p, trigger.AccumulationMode.DISCARDING)


@case([([1, 2], 0, EARLY, False), ([1, 2, 3], 1, ON_TIME, False), ([1, 2, 3, 4], 2, LATE, False)], streamed=True)
def panes_that_accumulate(p: P) -> C:
    return panes(p, trigger.AccumulationMode.ACCUMULATING)


@case([("k", [1, 2])], streamed=True)
def too_late_without_lateness(p: P) -> C:
    events = stream(0, [(("k", 1), 1), (("k", 2), 2)], 11, [(("k", 3), 3)])
    groups = p | events | beam.WindowInto(window.FixedWindows(10)) | beam.GroupByKey()
    return groups | beam.MapTuple(lambda key, values: (key, sorted(values)))


@case([("k", [1, 2]), ("k", [3])], streamed=True)
def trigger_on_the_clock(p: P) -> C:
    events = stream(0, [(("k", 1), 1)], ("clock", 3), [(("k", 2), 2)], ("clock", 3), [(("k", 3), 3)], ("clock", 9))
    windowed = p | events | beam.WindowInto(
        window.GlobalWindows(),
        trigger=trigger.Repeatedly(trigger.AfterProcessingTime(5)),
        accumulation_mode=trigger.AccumulationMode.DISCARDING,
    )
    return windowed | beam.GroupByKey() | beam.MapTuple(lambda key, values: (key, sorted(values)))


# State.


class Number(beam.DoFn):
    LAST = userstate.ReadModifyWriteStateSpec("last", VarIntCoder())

    def process(self, element: Any, last: Any = beam.DoFn.StateParam(LAST)) -> Iterable[Any]:
        number = (last.read() or 0) + 1
        last.write(number)
        yield (element[0], number)


@case([("a", 1), ("a", 2), ("b", 1)], number="bound")
def value_state(p: P) -> C:
    return p | beam.Create(PAIRS) | "number" >> beam.ParDo(Number())


@case([("a", 1), ("a", 2), ("a", 1), ("b", 1), ("b", 1)], number="bound")
def state_is_of_a_window(p: P) -> C:
    return p | stamped(STAMPED) | beam.WindowInto(window.FixedWindows(10)) | "number" >> beam.ParDo(Number())


class Kinds(beam.DoFn):
    BAG = userstate.BagStateSpec("bag", VarIntCoder())
    SET = userstate.SetStateSpec("set", StrUtf8Coder())
    SUM = userstate.CombiningValueStateSpec("sum", sum)
    END = userstate.TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        bag: Any = beam.DoFn.StateParam(BAG),
        names: Any = beam.DoFn.StateParam(SET),
        total: Any = beam.DoFn.StateParam(SUM),
        end: Any = beam.DoFn.TimerParam(END),
        where: Any = beam.DoFn.WindowParam,
    ) -> None:
        bag.add(element[1])
        names.add("odd" if element[1] % 2 else "even")
        total.add(element[1])
        end.set(where.end)

    @userstate.on_timer(END)
    def tell(
        self,
        key: Any = beam.DoFn.KeyParam,
        bag: Any = beam.DoFn.StateParam(BAG),
        names: Any = beam.DoFn.StateParam(SET),
        total: Any = beam.DoFn.StateParam(SUM),
        stamp: Any = beam.DoFn.TimestampParam,
    ) -> Iterable[Any]:
        yield (key, sorted(bag.read()), sorted(names.read()), total.read(), int(stamp))
        bag.clear()


@case(
    [
        *[("a", [1, 3], ["odd"], 4, 10), ("a", [4], ["even"], 4, 20)],
        *[("b", [2], ["even"], 2, 10), ("b", [5], ["odd"], 5, 30)],
    ],
    gather="bound",
)
def state_of_all_kinds_and_a_timer(p: P) -> C:
    return p | stamped(STAMPED) | beam.WindowInto(window.FixedWindows(10)) | "gather" >> beam.ParDo(Kinds())


class InOrder(beam.DoFn):
    LIST = userstate.OrderedListStateSpec("list", BytesCoder())

    def process(self, element: Any, list: Any = beam.DoFn.StateParam(LIST)) -> Iterable[Any]:
        for stamp, value in element[1]:
            list.add((Timestamp(stamp), value))
        list.clear_range(Timestamp(4), Timestamp(6))
        yield [(int(stamp), value) for stamp, value in list.read_range(Timestamp(1), Timestamp(9))]


@case([[(1, b"y"), (7, b"x")]])
def ordered_list_state(p: P) -> C:
    stamped_values = [(7, b"x"), (1, b"y"), (5, b"z"), (9, b"u"), (0, b"v")]
    return p | beam.Create([("k", stamped_values)]) | beam.ParDo(InOrder())


# Timers.


class Timers(beam.DoFn):
    FAMILY = userstate.TimerSpec("family", TimeDomain.WATERMARK)

    def process(self, element: Any, timer: Any = beam.DoFn.TimerParam(FAMILY)) -> None:
        timer.set(5, dynamic_timer_tag="first")
        timer.set(8, dynamic_timer_tag="second")
        timer.set(9, dynamic_timer_tag="third")
        timer.set(7, dynamic_timer_tag="second")  # in place of its earlier setting
        timer.clear(dynamic_timer_tag="third")

    @userstate.on_timer(FAMILY)
    def tell(self, tag: Any = beam.DoFn.DynamicTimerTagParam, stamp: Any = beam.DoFn.TimestampParam) -> Iterable[Any]:
        yield (tag, int(stamp))


@case([("first", 5), ("second", 7)])
def timers_of_one_family(p: P) -> C:
    return p | stamped([(("k", 1), 1)]) | beam.ParDo(Timers())


class CallBack(beam.DoFn):
    """Its timers set each other, and give outputs with a tag and with a time of their own."""

    FIRST = userstate.TimerSpec("first", TimeDomain.WATERMARK)
    SECOND = userstate.TimerSpec("second", TimeDomain.WATERMARK)

    def process(self, element: Any, first: Any = beam.DoFn.TimerParam(FIRST)) -> None:
        first.set(element[1])

    @userstate.on_timer(FIRST)
    def one(self, key: Any = beam.DoFn.KeyParam, second: Any = beam.DoFn.TimerParam(SECOND)) -> Iterator[Any]:
        second.set(6 if key == "a" else 17)
        yield key
        yield window.TimestampedValue(f"{key} stamped", 14)
        yield beam.pvalue.TaggedOutput("side", f"{key} tagged")
        yield f"{key} more"

    @userstate.on_timer(SECOND)
    def two(self, where: Any = beam.DoFn.WindowParam, stamp: Any = beam.DoFn.TimestampParam) -> list[Any]:
        return [f"{int(where.start)} at {int(stamp)}"]


class TellTime(beam.DoFn):
    def process(
        self, element: Any, stamp: Any = beam.DoFn.TimestampParam, where: Any = beam.DoFn.WindowParam
    ) -> Iterable[Any]:
        yield (element, int(stamp), int(where.start))


@case([
    ("a", 3, 0), ("a stamped", 14, 10), ("a tagged", 3, 0), ("a more", 3, 0), ("0 at 6", 6, 0),
    ("b", 12, 10), ("b stamped", 14, 10), ("b tagged", 12, 10), ("b more", 12, 10), ("10 at 17", 17, 10),
])  # fmt: skip
def timers_give_all_kinds_of_outputs(p: P) -> C:
    both = p | stamped([(("a", 3), 1), (("b", 12), 11)]) | beam.WindowInto(window.FixedWindows(10))
    main, side = both | beam.ParDo(CallBack()).with_outputs("side", main="main")
    return (main | "main" >> beam.ParDo(TellTime()), side | "side" >> beam.ParDo(TellTime())) | beam.Flatten()


class Repeat(beam.DoFn):
    TIMER = userstate.TimerSpec("timer", TimeDomain.REAL_TIME)
    COUNT = userstate.CombiningValueStateSpec("count", VarIntCoder(), sum)

    def process(self, element: Any, timer: Any = beam.DoFn.TimerParam(TIMER)) -> None:
        timer.set(Timestamp.now() + Duration(10))

    @userstate.on_timer(TIMER)
    def again(
        self,
        stamp: Any = beam.DoFn.TimestampParam,
        timer: Any = beam.DoFn.TimerParam(TIMER),
        count: Any = beam.DoFn.StateParam(COUNT),
    ) -> Iterable[Any]:
        count.add(1)
        timer.set(stamp + 10)
        yield (count.read(), int(stamp))


@case([(1, 10), (2, 20), (3, 30)], streamed=True)
def timer_that_repeats_on_the_clock(p: P) -> C:
    """It would go on for ever; the stream ends after 35 seconds of its clock, and the timer with it."""
    clock = [("clock", 5)] * 7
    return p | stream(0, [(("k", 1), 1)], *clock) | beam.ParDo(Repeat())


class Once(beam.DoFn):
    TIMER = userstate.TimerSpec("timer", TimeDomain.REAL_TIME)

    def process(self, element: Any, timer: Any = beam.DoFn.TimerParam(TIMER)) -> None:
        timer.set(Timestamp.now() + Duration(3600))

    @userstate.on_timer(TIMER)
    def tell(self, key: Any = beam.DoFn.KeyParam) -> Iterable[Any]:
        yield key


@case(["a", "b"])
def clock_timers_at_the_end_of_a_batch(p: P) -> C:
    return p | beam.Create(PAIRS) | beam.ParDo(Once())


@case([("a", [1, 3]), ("b", [2])])
def group_into_batches(p: P) -> C:
    batches = p | beam.Create(PAIRS) | beam.GroupIntoBatches(2)
    return batches | beam.MapTuple(lambda key, values: (key, sorted(values)))


# Splittable DoFns.


class Ranges(beam.transforms.core.RestrictionProvider):
    def initial_restriction(self, element: int) -> OffsetRange:
        return OffsetRange(0, element)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def split(self, element: int, restriction: OffsetRange) -> Iterator[OffsetRange]:
        yield from restriction.split(2)

    def restriction_size(self, element: int, restriction: OffsetRange) -> int:
        return int(restriction.size())


class Read(beam.DoFn):
    def process(self, element: int, tracker: Any = beam.DoFn.RestrictionParam(Ranges())) -> Iterable[Any]:
        position = tracker.current_restriction().start
        while tracker.try_claim(position):
            yield (element, position)
            position += 1


@case([(3, 0), (3, 1), (3, 2), (1, 0)], read="general")
def splittable(p: P) -> C:
    return p | beam.Create([3, 1]) | "read" >> beam.ParDo(Read())


class ReadSlowly(beam.DoFn):
    def process(
        self,
        element: int,
        tracker: Any = beam.DoFn.RestrictionParam(Ranges()),
        estimator: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),
    ) -> Iterable[Any]:
        position = tracker.current_restriction().start
        if tracker.try_claim(position):
            estimator.set_watermark(Timestamp(position))
            yield window.TimestampedValue((element, position), position)
            tracker.defer_remainder(Duration(micros=1000))


@case([(3, 0), (3, 1), (3, 2)], read="general")
def splittable_that_defers(p: P) -> C:
    return p | beam.Create([3]) | "read" >> beam.ParDo(ReadSlowly())


@case([("a", 1, 0), ("b", 11, 10), ("told a", 1, 0), ("told b", 11, 10)], same="compiled")
def an_element_that_a_step_gives_back_keeps_its_time(p: P) -> C:
    tens = p | stamped([("a", 1), ("b", 11)]) | beam.WindowInto(window.FixedWindows(10))
    both = tens | "same" >> beam.Map(lambda x: x)
    return (both, both | "told" >> beam.Map(lambda x: f"told {x}")) | beam.Flatten() | beam.ParDo(TellTime())
