"""Functions are opened before they are used and closed after; sinks and sources keep what they promise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter

import sage
from sage import runtime
from sage.errors import ConfigError
from sage.testing import collect

MakeEnv = Callable[[], sage.LocalEnvironment]

# Both runners of these tests run functions in this process, on instances of their own.
EVENTS: list[Any] = []


@pytest.fixture(autouse=True)
def no_events() -> None:
    EVENTS.clear()


class Watched(sage.MapFunction[int, int]):
    def open(self, context: sage.RuntimeContext) -> None:
        EVENTS.append("open")
        self.seen = context.metrics.counter("seen")
        self.size = context.metrics.distribution("size")
        self.last = context.metrics.gauge("last")
        self.where = (context.step, context.parallel_index, context.parallelism, context.logger.name)

    def map(self, value: int) -> int:
        self.seen.inc()
        self.size.update(value)
        self.last.set(value)
        EVENTS.append(self.where)
        return value

    def close(self) -> None:
        EVENTS.append("close")


class Collecting(sage.SinkFunction[int]):
    def open(self, context: sage.RuntimeContext) -> None:
        self.pending: list[int] = []

    def write(self, value: int) -> None:
        self.pending.append(value)

    def flush(self) -> None:
        EVENTS.extend(self.pending)
        self.pending.clear()


class Numbers(sage.SourceFunction[int]):
    def __init__(self, upto: int, parts: int = 2) -> None:
        self.upto, self.parts = upto, parts

    def splits(self) -> Sequence[range]:
        return [range(part, self.upto, self.parts) for part in range(self.parts)]

    def read(self, split: range) -> Iterator[int]:
        yield from split


class Stamped(sage.SourceFunction[int]):
    def read(self, split: Any) -> Iterator[Any]:
        yield beam.window.TimestampedValue(7, 100)


def test_open_and_close_surround_the_elements(make_env: MakeEnv) -> None:
    env = make_env()
    env.from_collection([1, 2]).map(Watched())
    result = env.execute()
    assert EVENTS[0] == "open"
    assert EVENTS.count("close") == EVENTS.count("open")
    assert ("map(Watched)", 0, 1, "sage.step.map(Watched)") in EVENTS
    metrics = result.metrics().query(MetricsFilter().with_name("seen"))["counters"]
    assert [(m.key.metric.namespace, m.result) for m in metrics] == [(f"{__name__}.Watched", 2)]
    sizes = result.metrics().query(MetricsFilter().with_name("size"))["distributions"]
    assert [(m.result.min, m.result.max, m.result.count) for m in sizes] == [(1, 2, 2)]


def test_the_runner_tells_a_function_where_it_runs() -> None:
    def told() -> None:
        runtime.set_subtask(1, 4)
        runtime.set_clock(lambda: 42.0)
        EVENTS.append((runtime.subtask(), runtime.now()))

    thread = threading.Thread(target=told)
    thread.start()
    thread.join()
    assert [(runtime.Subtask(1, 4), 42.0)] == EVENTS
    assert runtime.subtask() == runtime.Subtask(0, 1)
    with pytest.raises(ValueError, match=r"subtask index 4 is not in 0\.\.3"):
        runtime.set_subtask(4, 4)


def _record(value: Any) -> None:
    EVENTS.append(value)


@pytest.mark.parametrize("sink", [Collecting(), Collecting, _record])
def test_a_sink_receives_everything(env: sage.LocalEnvironment, sink: Any) -> None:
    env.from_collection([1, 2, 3]).sink(sink).map(str).to_sink(sink)
    env.execute()
    assert sorted(EVENTS, key=str) == sorted([1, 2, 3, "1", "2", "3"], key=str)


def test_a_beam_transform_is_a_sink(env: sage.LocalEnvironment, tmp_path: Any) -> None:
    env.from_collection(["a", "b"]).sink(beam.io.WriteToText(str(tmp_path / "out"), num_shards=1))
    env.execute()
    assert sorted(next(tmp_path.iterdir()).read_text().split()) == ["a", "b"]


def _numbers(upto: int) -> range:
    return range(upto)


@pytest.mark.parametrize(("source", "config"), [(Numbers(5), None), (Numbers, {"upto": 5}), (_numbers, {"upto": 5})])
def test_sources(make_env: MakeEnv, source: Any, config: Any) -> None:
    assert sorted(collect(make_env().from_source(source, config))) == [0, 1, 2, 3, 4]


def test_a_beam_transform_is_a_source(env: sage.LocalEnvironment, tmp_path: Any) -> None:
    (tmp_path / "in.txt").write_text("a\nb\n")
    assert sorted(collect(env.from_source(beam.io.ReadFromText(str(tmp_path / "in.txt"))))) == ["a", "b"]


def test_a_source_may_give_event_time(env: sage.LocalEnvironment) -> None:
    def event_time(value: int, at: Any = beam.DoFn.TimestampParam) -> tuple[int, float]:
        return value, float(at)

    assert collect(env.from_source(Stamped()).apply(beam.Map(event_time))) == [(7, 100.0)]


def test_a_source_with_a_bad_key_is_refused(env: sage.LocalEnvironment) -> None:
    with pytest.raises(ConfigError, match=r"from_source\(Numbers\): unknown config key 'upto_'; did you mean 'upto'"):
        env.from_source(Numbers, {"upto_": 5})
