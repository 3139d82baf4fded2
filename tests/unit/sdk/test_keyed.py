"""Keyed functions: each kind of state, timers in event and processing time, two streams over one state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest

import sage
from sage.errors import ConfigError
from sage.handles import StateNotReady
from sage.keyed import NoTimerMethod
from sage.testing import collect

MakeEnv = Callable[[], sage.LocalEnvironment]


class Everything(sage.KeyedProcessFunction[int, Any]):
    """Holds the same values in each kind of state and gives them out when the window's time is over."""

    count = sage.ValueState("count", int, default=0)
    values = sage.ListState("values", int)
    distinct = sage.SetState("distinct", int)
    by_parity = sage.MapState("by_parity", str, int)
    largest = sage.ReducingState("largest", int, max)
    total = sage.AggregatingState("total", sum)

    def open(self, context: sage.RuntimeContext) -> None:
        self.seen = context.metrics.counter("seen")
        assert context.state("count") is self.count

    def process_element(self, value: int, ctx: sage.KeyedContext) -> Iterator[Any]:
        self.seen.inc()
        self.count.update(self.count.value() + 1)
        self.values.add(value)
        self.distinct.add(value)
        parity = "odd" if value % 2 else "even"
        self.by_parity[parity] = self.by_parity.get(parity, 0) + 1
        self.largest.add(value)
        self.total.add(value)
        ctx.register_event_time_timer(100)
        ctx.register_event_time_timer(90)
        ctx.delete_event_time_timer(90)
        yield from ()

    def on_timer(self, timestamp: Any, ctx: sage.KeyedContext) -> Iterator[Any]:
        yield (
            ctx.key,
            float(timestamp),
            self.count.value(),
            sorted(self.values),
            sorted(self.distinct),
            sorted(self.by_parity.items()),
            self.largest.get(),
            self.total.get(),
        )
        self.count.clear()
        self.values.update([])
        self.by_parity.clear()
        ctx.register_event_time_timer(200) if timestamp < 200 and ctx.key == "a" else None


def test_each_kind_of_state_and_event_time_timers(make_env: MakeEnv) -> None:
    events = make_env().from_collection([("a", 1), ("a", 2), ("a", 2), ("b", 5)])
    out = events.with_timestamps(lambda _: 10).as_keyed().process(Everything)
    assert sorted(collect(out)) == [
        ("a", 100.0, 3, [1, 2, 2], [1, 2], [("even", 2), ("odd", 1)], 2, 5),
        ("a", 200.0, 0, [], [1, 2], [], 2, 5),
        ("b", 100.0, 1, [5], [5], [("odd", 1)], 5, 5),
    ]


class Running(sage.KeyedProcessFunction[int, "tuple[str, int]"]):
    total = sage.ValueState("total", int, default=0)

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def process_element(self, value: int, ctx: sage.KeyedContext) -> Iterator[tuple[str, int]]:
        self.total.update(self.total.value() + value)
        yield ctx.key, self.start + self.total.value()


@pytest.mark.parametrize(("function", "config"), [(Running(100), None), (Running, {"start": 100})])
def test_state_belongs_to_key_and_window(make_env: MakeEnv, function: Any, config: Any) -> None:
    events = make_env().from_collection([(1, ("a", 1)), (2, ("b", 2)), (3, ("a", 4)), (70, ("a", 8))])
    keyed = events.with_timestamps(lambda e: e[0]).map(lambda e: e[1]).as_keyed()
    out = collect(keyed.window(sage.TumblingWindows("1m")).process(function, config))
    assert max(out) == ("b", 102)
    assert sorted(total for key, total in out if key == "a")[-1] in (105, 108)
    assert {total for key, total in out if key == "a"} <= {101, 104, 105, 108}
    assert len(out) == 4


def test_processing_time_timer_fires(env: sage.LocalEnvironment) -> None:
    class Soon(sage.KeyedProcessFunction[int, Any]):
        value = sage.ValueState("value", int)

        def process_element(self, value: int, ctx: sage.KeyedContext) -> None:
            self.value.update(value)
            ctx.register_processing_time_timer(ctx.processing_time() + 0.01)

        def on_processing_timer(self, timestamp: Any, ctx: sage.KeyedContext) -> list[Any]:
            return [(ctx.key, self.value.value())]

    assert collect(env.from_collection([("k", 7)]).as_keyed().process(Soon())) == [("k", 7)]


class Match(sage.KeyedCoProcessFunction[int, str, "tuple[str, int, str]"]):
    numbers = sage.ListState("numbers", int)
    words = sage.ListState("words", str)

    def process_element1(self, value: int, ctx: sage.KeyedContext) -> Iterator[tuple[str, int, str]]:
        self.numbers.add(value)
        for word in self.words:
            yield ctx.key, value, word

    def process_element2(self, value: str, ctx: sage.KeyedContext) -> Iterator[tuple[str, int, str]]:
        self.words.add(value)
        for number in self.numbers:
            yield ctx.key, number, value


def test_two_streams_share_state(make_env: MakeEnv) -> None:
    env = make_env()
    numbers, words = env.from_collection([("a", 1), ("b", 2)]), env.from_collection([("a", "x"), ("c", "y")])
    assert collect(numbers.as_keyed().connect(words.as_keyed()).process(Match)) == [("a", 1, "x")]


def test_keyed_functions_need_keys(env: sage.LocalEnvironment) -> None:
    one, two = env.from_collection([1]), env.from_collection([2])
    with pytest.raises(ConfigError, match=r"process\(Running\): a KeyedProcessFunction needs a keyed stream"):
        one.process(Running)
    with pytest.raises(ConfigError, match="both connected streams must be keyed"):
        one.connect(two).process(Match)


def test_a_timer_without_its_method_is_refused(env: sage.LocalEnvironment) -> None:
    class NoMethod(sage.KeyedProcessFunction[int, Any]):
        def process_element(self, value: int, ctx: sage.KeyedContext) -> None:
            ctx.register_event_time_timer(1)

    env.from_collection([("k", 1)]).as_keyed().process(NoMethod())
    with pytest.raises(Exception, match=r"no on_timer\(self, timestamp, ctx\)") as failure:
        env.execute()
    assert isinstance(failure.value, NoTimerMethod) or isinstance(failure.value.__cause__, NoTimerMethod)


def test_state_outside_of_a_key_says_so() -> None:
    function = Running()
    with pytest.raises(StateNotReady, match="'total' of Running is there once a runner has opened"):
        function.total.value()
    Running.total.attach(function)
    with pytest.raises(StateNotReady, match="'total' is used where there is no key"):
        function.total.value()
    with pytest.raises(AttributeError, match=r"use self\.total\.update"):
        function.total = 3  # type: ignore[assignment]


def test_declarations_are_checked(env: sage.LocalEnvironment) -> None:
    class Twice(sage.KeyedProcessFunction[int, Any]):
        one = sage.ValueState("same", int)
        two = sage.ListState("same", int)

    with pytest.raises(ConfigError, match="Twice declares two states named 'same'"):
        env.from_collection([("k", 1)]).as_keyed().process(Twice())
    with pytest.raises(ConfigError, match="must be an identifier"):
        sage.ValueState("not a name", int)


def test_a_keyed_function_is_one_stateful_beam_dofn(env: sage.LocalEnvironment) -> None:
    env.from_collection([("k", 1)]).as_keyed().process(Everything, name="Keep")
    proto = env.pipeline.to_runner_api()
    step = next(t for t in proto.components.transforms.values() if t.unique_name == "Keep")
    payload = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    assert set(payload.state_specs) == {"count", "values", "distinct", "by_parity", "largest", "total"}
    assert list(payload.timer_family_specs) == ["ts-event"]


def test_two_workers_give_the_same() -> None:
    out = []
    for workers in (1, 2):
        env = sage.LocalEnvironment("test", {"workers": workers})
        events = env.from_collection([(f"k{n % 5}", n) for n in range(50)]).with_timestamps(lambda kv: kv[1])
        out.append(sorted(collect(events.as_keyed().process(Everything))))
    assert len(out[0]) == 5
    assert out[0] == out[1]
