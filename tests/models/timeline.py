"""Two sides of a join as streams with a watermark, and what a pipeline gives, with its timestamps."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from sage.runners.local import LocalRunner
from sage.transforms.late import WindowWithLateOutput
from tests.conformance.cases import stream
from tests.models.cluster import Sink

LEFT, RIGHT = "left", "right"


class Timeline(beam.PTransform):
    """A stream of (side, element) as two collections.

    Args:
        events: lists of (side, element, timestamp in s); numbers, to which the watermark moves (s).
    """

    def __init__(self, events: Iterable[Any]) -> None:
        super().__init__()
        self.events = list(events)

    def expand(self, pbegin: Any) -> Any:
        stream = TestStream()
        for event in self.events:
            if isinstance(event, list):
                stream.add_elements([TimestampedValue((side, value), stamp) for side, value, stamp in event])
            else:
                stream.advance_watermark_to(event)
        rows = pbegin | stream.advance_watermark_to_infinity()
        return tuple(rows | side >> beam.FlatMap(_of_side, side) for side in (LEFT, RIGHT))


def _of_side(event: Any, side: str) -> Any:
    return (event[1],) if event[0] == side else ()


class Bounded(beam.PTransform):
    """The same elements as two bounded collections; the watermark is left out."""

    def __init__(self, events: Iterable[Any]) -> None:
        super().__init__()
        self.events = [event for part in events if isinstance(part, list) for event in part]

    def expand(self, pbegin: Any) -> Any:
        sides = []
        for side in (LEFT, RIGHT):
            rows = [(value, stamp) for where, value, stamp in self.events if where == side]
            made = pbegin | f"create {side}" >> beam.Create(rows, reshuffle=False)
            sides.append(made | f"stamp {side}" >> beam.MapTuple(TimestampedValue))
        return tuple(sides)


class Endless(beam.PTransform):
    """The same collection, of which a transform has to think that it goes on."""

    def expand(self, rows: Any) -> Any:
        made = rows | beam.Map(lambda row: row)
        made.is_bounded = False
        return made


class Note(beam.DoFn):
    """Puts each element into the sink, under a name, with its timestamp (s)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, element: Any, stamp: Any = beam.DoFn.TimestampParam) -> None:
        Sink.put((self.name, repr(element), stamp.micros / 1_000_000))


class Keep(beam.PTransform):
    """Notes all elements."""

    def __init__(self, name: str) -> None:
        super().__init__(f"keep {name}")
        self.note = Note(name)

    def expand(self, rows: Any) -> Any:
        return rows | beam.ParDo(self.note)


def run(build: Callable[[beam.Pipeline], Any], runner: Any = None, *options: str) -> dict[str, Counter[Any]]:
    """What was noted, in this process: by name, how often each (text of element, timestamp in s)."""
    Sink.found.clear()
    pipeline = beam.Pipeline(runner=runner or LocalRunner(), options=PipelineOptions(list(options)))
    build(pipeline)
    pipeline.run().wait_until_finish()
    found: dict[str, Counter[Any]] = {}
    for noted, count in Sink.found.items():
        if len(noted) == 3:
            name, text, stamp = noted
            found.setdefault(name, Counter())[text, stamp] = count
    return found


def texts(found: Counter[Any]) -> Counter[str]:
    """The same without timestamps."""
    made: Counter[str] = Counter()
    for (text, _), count in found.items():
        made[text] += count
    return made


def split_late(events: Any, windows: Any, lateness: Any = 0, **how: Any) -> dict[str, Counter[Any]]:
    """Lists of timestamps (s) of elements, and numbers to which the watermark moves (s)."""

    def build(p: beam.Pipeline) -> None:
        number = itertools.count()
        timed = [[(("k", next(number)), t) for t in part] if isinstance(part, list) else part for part in events]
        rows = p | stream(*timed)
        on_time, late = rows | WindowWithLateOutput(windows, lateness, **how)
        late | Keep("late")
        (
            on_time
            | "group" >> beam.GroupByKey()
            | beam.FlatMap(lambda pair: [("k", value) for value in pair[1]])
            | Keep("in")
        )

    return run(build)


def numbers(found: dict[str, Counter[Any]], name: str) -> list[int]:
    return sorted(eval(text)[1] for text, _ in found.get(name, Counter()).elements())
