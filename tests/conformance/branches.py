"""Each part of Beam's model once: pipelines for all hosts, and what they put out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics import Metrics
from apache_beam.transforms import trigger, userstate, window

LINES = "to be or not to be\nthat is the question\nto die to sleep\n"
STAMPED = [("a", 1), ("b", 3), ("a", 8), ("a", 11), ("b", 12), ("b", 29)]


class Split(beam.DoFn):
    words = Metrics.counter("hosts", "words")
    lengths = Metrics.distribution("hosts", "lengths")

    def process(self, line: str) -> Iterator[str]:
        for word in line.split():
            self.words.inc()
            self.lengths.update(len(word))
            yield word


class SumAtEnd(beam.DoFn):
    """Sums a key's values in state; an event-time timer at the window's end puts the sum out."""

    TOTAL = userstate.CombiningValueStateSpec("total", sum)
    END = userstate.TimerSpec("end", userstate.TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, int],
        span: Any = beam.DoFn.WindowParam,
        total: Any = beam.DoFn.StateParam(TOTAL),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> None:
        total.add(element[1])
        end.set(span.end)

    @userstate.on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        span: Any = beam.DoFn.WindowParam,
        total: Any = beam.DoFn.StateParam(TOTAL),
    ) -> Iterator[Any]:
        yield key, int(span.start), total.read()


class Later(beam.DoFn):
    """Puts each key out again when a processing-time timer fires, shortly after."""

    SOON = userstate.TimerSpec("soon", userstate.TimeDomain.REAL_TIME)

    def process(self, element: tuple[str, int], soon: Any = beam.DoFn.TimerParam(SOON)) -> None:
        soon.set(time.time() + 0.1)

    @userstate.on_timer(SOON)
    def on_soon(self, key: Any = beam.DoFn.KeyParam) -> Iterator[str]:
        yield key


class Ranges(beam.transforms.core.RestrictionProvider):
    def initial_restriction(self, element: int) -> OffsetRange:
        return OffsetRange(0, element)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def split(self, element: int, restriction: OffsetRange) -> Iterator[OffsetRange]:
        yield from restriction.split(2)

    def restriction_size(self, element: int, restriction: OffsetRange) -> int:
        return int(restriction.size())


RANGES = Ranges()


class Positions(beam.DoFn):
    def process(self, element: int, tracker: Any = beam.DoFn.RestrictionParam(RANGES)) -> Iterator[Any]:
        position = tracker.current_restriction().start
        while tracker.try_claim(position):
            yield element, position
            position += 1


class OddOut(beam.DoFn):
    def process(self, element: int) -> Iterator[Any]:
        yield beam.pvalue.TaggedOutput("odd", element) if element % 2 else element


def with_window(element: tuple[str, Any], span: Any = beam.DoFn.WindowParam) -> Any:
    return element[0], int(span.start), sorted(element[1])


def timed(p: Any) -> Any:
    return p | "stamped" >> beam.Create(STAMPED) | beam.Map(lambda pair: window.TimestampedValue(pair, pair[1]))


def fixed(p: Any) -> Any:
    return timed(p) | beam.WindowInto(window.FixedWindows(10))


def table(p: Any) -> Any:
    return p | "table" >> beam.Create([("a", 10), ("b", 20)])


def early_panes(p: Any) -> Any:
    early = trigger.AfterWatermark(early=trigger.AfterCount(1))
    mode = trigger.AccumulationMode.DISCARDING
    panes = beam.WindowInto(window.FixedWindows(10), trigger=early, accumulation_mode=mode)
    return (
        timed(p) | panes | beam.GroupByKey() | beam.FlatMapTuple(lambda key, values: [(key, value) for value in values])
    )


def side_inputs(p: Any) -> Any:
    return timed(p) | beam.Map(
        lambda pair, table, least: pair[1] + table[pair[0]] + least,
        beam.pvalue.AsDict(table(p)),
        beam.pvalue.AsSingleton(p | "least" >> beam.Create([100])),
    )


def tags(p: Any) -> Any:
    parted = p | beam.Create(range(7)) | beam.ParDo(OddOut()).with_outputs("odd", main="even")
    return (
        parted.even | "even" >> beam.Map(lambda x: ("even", x)),
        parted.odd | "odd" >> beam.Map(lambda x: ("odd", x)),
    ) | beam.Flatten()


def join(p: Any) -> Any:
    both = {"left": timed(p), "right": table(p)} | beam.CoGroupByKey()
    return both | beam.MapTuple(lambda key, sides: (key, sorted(sides["left"]), list(sides["right"])))


BRANCHES: dict[str, Callable[[Any], Any]] = {
    "windows": lambda p: fixed(p) | beam.GroupByKey() | beam.Map(with_window),
    "sessions": lambda p: timed(p) | beam.WindowInto(window.Sessions(5)) | beam.GroupByKey() | beam.Map(with_window),
    "early panes": early_panes,
    "side inputs": side_inputs,
    "state and timers": lambda p: fixed(p) | beam.ParDo(SumAtEnd()),
    "processing-time timers": lambda p: table(p) | beam.ParDo(Later()),
    "combine": lambda p: fixed(p) | beam.CombinePerKey(sum),
    "combine globally": lambda p: timed(p) | beam.Values() | beam.CombineGlobally(beam.combiners.MeanCombineFn()),
    "hot keys": lambda p: timed(p) | beam.CombinePerKey(sum).with_hot_key_fanout(3),
    "splittable": lambda p: p | beam.Create([3, 4]) | beam.ParDo(Positions()),
    "tags": tags,
    "join": join,
    "reshuffle": lambda p: p | beam.Create(range(100)) | beam.Reshuffle() | beam.Map(lambda x: -x),
}
"""Each part of Beam's model once; the word count beside them reads a file."""


class Branch(beam.PTransform):
    """One of the branches, its elements told as text, in the global window again."""

    def __init__(self, name: str, build: Callable[[Any], Any]) -> None:
        super().__init__(name)
        self.branch = name
        self.build = build

    def expand(self, begin: Any) -> Any:
        name = self.branch
        told = self.build(begin.pipeline) | "tell" >> beam.Map(lambda value: repr((name, value)))
        return told | "global" >> beam.WindowInto(window.GlobalWindows(), trigger=trigger.DefaultTrigger())


def word_count(text: str) -> Callable[[Any], Any]:
    return lambda p: p | beam.io.ReadFromText(text) | "split" >> beam.ParDo(Split()) | beam.combiners.Count.PerElement()


EXPECTED: dict[str, list[Any]] = {
    "word count": [
        ("be", 2), ("die", 1), ("is", 1), ("not", 1), ("or", 1), ("question", 1), ("sleep", 1), ("that", 1),
        ("the", 1), ("to", 4),
    ],
    "windows": [("a", 0, [1, 8]), ("a", 10, [11]), ("b", 0, [3]), ("b", 10, [12]), ("b", 20, [29])],
    "sessions": [("a", 1, [1]), ("a", 8, [8, 11]), ("b", 3, [3]), ("b", 12, [12]), ("b", 29, [29])],
    "early panes": sorted(STAMPED),
    "side inputs": sorted(100 + value + {"a": 10, "b": 20}[key] for key, value in STAMPED),
    "state and timers": [("a", 0, 9), ("a", 10, 11), ("b", 0, 3), ("b", 10, 12), ("b", 20, 29)],
    "processing-time timers": ["a", "b"],
    "combine": [("a", 9), ("a", 11), ("b", 3), ("b", 12), ("b", 29)],
    "combine globally": [64 / 6],
    "hot keys": [("a", 20), ("b", 44)],
    "splittable": [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3)],
    "tags": [("even", 0), ("even", 2), ("even", 4), ("even", 6), ("odd", 1), ("odd", 3), ("odd", 5)],
    "join": [("a", [1, 8, 11], [10]), ("b", [3, 12, 29], [20])],
    "reshuffle": sorted(-x for x in range(100)),
}  # fmt: skip
