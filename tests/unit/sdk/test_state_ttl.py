"""Maps, and state with a time to live: on Sage's engine, and as values of Beam's kinds elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that, equal_to

import sage
from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.stateful import stateful_dofn
from sage.testing import collect

MakeEnv = Callable[[], sage.LocalEnvironment]


class Mortal(sage.KeyedProcessFunction[str, Any]):
    """Everything is forgotten ten seconds of event time after it was written."""

    value = sage.ValueState("value", str, default="none", ttl_ms=10_000, ttl_time="event")
    values = sage.ListState("values", str, ttl_ms=10_000, ttl_time="event")
    distinct = sage.SetState("distinct", str, ttl_ms=10_000, ttl_time="event")
    entries = sage.MapState("entries", str, int, ttl_ms=10_000, ttl_time="event")
    longest = sage.ReducingState("longest", str, max, ttl_ms=10_000, ttl_time="event")
    count = sage.AggregatingState("count", beam.combiners.CountCombineFn(), ttl_ms=10_000, ttl_time="event")

    def process_element(self, value: str, ctx: sage.KeyedContext) -> Iterator[Any]:
        if value != "read":
            self.value.update(value)
            self.values.add(value)
            self.distinct.add(value)
            self.entries[value] = len(value)
            self.longest.add(value)
            self.count.add(value)
        else:
            yield (
                self.value.value(), sorted(self.values), sorted(self.distinct), sorted(self.entries.items()),
                self.longest.get(), self.count.get(), "a" in self.distinct, self.entries.get("a"),
            )  # fmt: skip


NOTHING = ("none", [], [], [], None, 0, False, None)


@pytest.mark.parametrize(
    ("then", "seen"),
    [
        (9.999, ("b", ["a", "b"], ["a", "b"], [("a", 1), ("b", 1)], "b", 2, True, 1)),
        (10, ("b", ["b"], ["b"], [("b", 1)], "b", 2, False, None)),
        (15, NOTHING),
    ],
)
def test_what_was_not_written_for_its_time_to_live_is_gone(make_env: MakeEnv, then: float, seen: Any) -> None:
    events = make_env().from_collection([(0, "a"), (5, "b"), (then, "read")])
    keyed = events.with_timestamps(lambda event: event[0]).map(lambda event: ("key", event[1])).as_keyed()
    assert collect(keyed.process(Mortal)) == [seen]


class Anew(sage.KeyedProcessFunction[str, Any]):
    """Reads what writing again has made of an expired state."""

    count = sage.AggregatingState("count", sum, ttl_ms=10_000, ttl_time="event")
    entries = sage.MapState("entries", str, int, ttl_ms=10_000, ttl_time="event")

    def process_element(self, value: str, ctx: sage.KeyedContext) -> Iterator[Any]:
        self.count.add(1)
        self.entries[value] = self.entries.get(value, 0) + 1
        yield self.count.get(), self.entries[value], len(self.entries)


def test_writing_begins_a_new_life(make_env: MakeEnv) -> None:
    events = make_env().from_collection([(0, "a"), (9, "a"), (18, "b"), (30, "a")])
    keyed = events.with_timestamps(lambda event: event[0]).map(lambda event: ("key", event[1])).as_keyed()
    assert collect(keyed.process(Anew)) == [(1, 1, 1), (2, 2, 1), (3, 1, 2), (1, 1, 1)]


class ByTheClock(sage.KeyedProcessFunction[str, Any]):
    value = sage.ValueState("value", str, ttl_ms=1_000)

    def process_element(self, value: str, ctx: sage.KeyedContext) -> Iterator[Any]:
        yield self.value.value()
        self.value.update(value)


def test_processing_time_is_the_runners() -> None:
    stream = (
        test_stream.TestStream()
        .add_elements([("key", "a")])
        .advance_processing_time(0.9)
        .add_elements([("key", "b")])
        .advance_processing_time(1.0)
        .add_elements([("key", "c")])
        .advance_watermark_to_infinity()
    )
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        seen = pipeline | stream | beam.ParDo(stateful_dofn(ByTheClock(), "step"))
        assert_that(seen, equal_to([None, "a", None]))


class Entries(sage.KeyedProcessFunction[Any, Any]):
    entries = sage.MapState("entries")

    def process_element(self, value: Any, ctx: sage.KeyedContext) -> Iterator[Any]:
        entries = self.entries
        entries["one"] = 1
        entries["two"] = 2
        yield sorted(entries), sorted(entries.items()), len(entries), bool(entries), "one" in entries
        del entries["one"]
        yield entries.get("one"), entries.get("one", 5), entries["two"]
        for missing in ("one", "never"):
            with pytest.raises(KeyError):
                del entries[missing]
            with pytest.raises(KeyError):
                entries[missing]
        entries.clear()
        yield len(entries), bool(entries)


def test_a_map_is_used_as_a_dict(make_env: MakeEnv) -> None:
    out = collect(make_env().from_collection([("key", 1)]).as_keyed().process(Entries))
    assert out == [
        (["one", "two"], [("one", 1), ("two", 2)], 2, True, True),
        (None, 5, 2),
        (0, False),
    ]


def test_a_time_to_live_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="state 'x': ttl_ms is a number of milliseconds above zero, not 0"):
        sage.ValueState("x", int, ttl_ms=0)
    with pytest.raises(ConfigError, match="'processing' or 'event', not 'wall'"):
        sage.MapState("x", ttl_ms=1, ttl_time="wall")  # type: ignore[arg-type]
