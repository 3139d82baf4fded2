"""The same pipelines on every host: what the engine means does not depend on where it runs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import trigger, userstate, window

from sage.errors import StepError, UnsupportedFeature, WorkerLost
from sage.handle import JobHandle, observe_jobs
from sage.jobs import etl, stdlib_report
from sage.jobs.etl.sample import write_sample

RUNNERS = {
    "local": "sage.runners.local.LocalRunner",
    "ray": "sage.runners.ray.RayRunner",
    "flink": "sage.runners.flink.FlinkRunner",
}
LINES = "to be or not to be\nthat is the question\nto die to sleep\n"
STAMPED = [("a", 1), ("b", 3), ("a", 8), ("a", 11), ("b", 12), ("b", 29)]

hosts = pytest.mark.parametrize(
    "host",
    [
        "local",
        pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow]),
        pytest.param("flink", marks=[pytest.mark.flink, pytest.mark.slow]),
    ],
)


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


def runner_of(host: str) -> Any:
    module, _, name = RUNNERS[host].rpartition(".")
    return getattr(importlib.import_module(module), name)()


@pytest.fixture(scope="session")
def started() -> Iterator[dict[str, Any]]:
    """What is started once for all tests, and the result of the one large pipeline on each host."""
    os.environ.setdefault("JVM_ARGS", "-Xmx768m")
    known: dict[str, Any] = {}
    yield known
    if "ray" in known:
        import ray

        ray.shutdown()


@pytest.fixture
def ready(host: str, started: dict[str, Any]) -> str:
    """The host, bounded to what a small machine has."""
    if host == "ray" and "ray" not in started:
        import ray

        ray.init(num_cpus=2, object_store_memory=200 << 20, include_dashboard=False, logging_level="ERROR")
        started["ray"] = True
    return host


@pytest.fixture
def ran(ready: str, started: dict[str, Any], tmp_path: Path) -> tuple[dict[str, list[Any]], Any]:
    """What the branches put out on the host, and the result of the job; run once."""
    place = f"result on {ready}"
    if place not in started:
        (tmp_path / "text").write_text(LINES, encoding="utf-8")
        p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
        all_branches = {"word count": word_count(str(tmp_path / "text")), **BRANCHES}
        told = [p | Branch(name, build) for name, build in all_branches.items()]
        told | beam.Flatten() | beam.io.WriteToText(str(tmp_path / "out"), shard_name_template="")
        result = p.run()
        result.wait_until_finish()
        found: dict[str, list[Any]] = {name: [] for name in EXPECTED}
        for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines():
            name, value = ast.literal_eval(line)
            found[name].append(value)
        started[place] = found, result
    return started[place]


@hosts
@pytest.mark.parametrize("branch", EXPECTED)
def test_a_part_of_the_model_means_the_same_on_every_host(ran: Any, branch: str) -> None:
    assert sorted(ran[0][branch]) == EXPECTED[branch]


@hosts
def test_metrics_progress_and_paths_come_from_all_workers(ran: Any) -> None:
    _, result = ran
    assert result.state == "DONE"
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("hosts"))
    (words,) = found["counters"]
    (lengths,) = found["distributions"]
    assert (words.key.step, words.committed) == ("word count/split", 14)
    assert (lengths.committed.count, lengths.committed.min, lengths.committed.max) == (14, 2, 8)
    progress = {step.name: step for step in result.progress()}
    assert (progress["word count/split"].elements_in, progress["word count/split"].elements_out) == (3, 14)
    assert {step.state for step in progress.values()} == {"done"}
    assert len(progress) == len(result.progress())
    assert result.paths()["word count/split"] in ("compiled", "bound", "general")


def invert(value: int) -> float:
    return 1 / value


@hosts
def test_a_failing_function_is_named_with_its_step_and_lines(ready: str) -> None:
    p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
    p | beam.Create([1, 0]) | beam.Reshuffle() | "invert" >> beam.Map(invert)
    with pytest.raises(StepError) as caught:
        p.run().wait_until_finish()
    error = caught.value
    assert error.step == "invert"
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.raised_at is not None
    assert error.raised_at.text == "return 1 / value"
    assert error.applied_at is not None
    assert error.applied_at.file == __file__


def die(element: Any) -> None:
    os._exit(9)


@hosts
def test_a_worker_that_dies_ends_the_job_and_says_so(ready: str) -> None:
    p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
    p | beam.Impulse() | beam.Map(die)
    with pytest.raises(WorkerLost) as caught:
        p.run()
    assert caught.value.retryable


class Endless(beam.DoFn):
    """Says by a file that it is at work, and is never done."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def process(self, element: Any) -> None:
        self.sign.touch()
        while True:
            time.sleep(0.05)


@hosts
def test_a_job_can_be_cancelled_while_a_function_is_at_work(ready: str, tmp_path: Path) -> None:
    jobs: list[JobHandle] = []
    sign = tmp_path / "at work"

    def cancel() -> None:
        while not sign.exists():
            time.sleep(0.05)
        jobs[0].cancel()

    p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
    p | beam.Impulse() | beam.ParDo(Endless(sign))
    with observe_jobs(jobs.append):
        threading.Thread(target=cancel, daemon=True).start()
        assert p.run().state == "CANCELLED"


@hosts
def test_what_cannot_be_there_is_refused_before_the_host_is_started(host: str) -> None:
    """No actor and no Java process: the refusal takes milliseconds. Local has streams."""
    from apache_beam.testing import test_stream

    p = beam.Pipeline(runner=runner_of(host))
    p | "events" >> test_stream.TestStream().add_elements([1]).advance_watermark_to_infinity() | beam.Map(abs)
    if host == "local":
        assert p.run().state == "DONE"
        return
    with pytest.raises(UnsupportedFeature, match=r"step 'events': TestStream \(available on: local\)"):
        p.run()


@hosts
def test_the_standard_library_report_is_the_same_bytes(ready: str, tmp_path: Path) -> None:
    source = os.path.dirname(importlib.import_module("json").__file__ or "")
    for name in {"local", ready}:
        stdlib_report.main(
            ["--source", source, "--output", str(tmp_path / name), "--workers=2", f"--runner={RUNNERS[name]}"]
        )
    assert _files(tmp_path / ready) == _files(tmp_path / "local")


@hosts
def test_the_etl_job_writes_the_same(ready: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sample(str(data), rows=300)
    inputs = ["--input", f"orders={data}/orders-*.csv", "--input", f"customers={data}/customers.jsonl"]
    for name in {"local", ready}:
        etl.main([*inputs, "--output", str(tmp_path / name), "--workers=2", f"--runner={RUNNERS[name]}"])
    assert _files(tmp_path / ready) == _files(tmp_path / "local")


def _files(folder: Path) -> dict[str, Any]:
    found = {str(path.relative_to(folder)): _content(path) for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def _content(path: Path) -> Any:
    """A file's bytes; of a database, whose pages tell in which order rows came, what is in it."""
    if path.suffix != ".sqlite":
        return path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())
