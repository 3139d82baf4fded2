"""In a stream nothing waits for long because a step is slow: not what that step gave, nor time, nor other stages.

The clock is moved by the slow step alone, so that what is asserted does not hang on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.transforms import environments
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.checkpoint.snapshot import Barrier
from sage.runners.engine.core.blocks import NO_FIRING, Block
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.plan import plan_pipeline
from sage.sources import Batch, ReadStream, SplitReader, StreamSource

ROWS = 200
PLANNED_WORKERS = 2  # one runs: but what is shared between two is where a stage ends
SLOW_MICROS = 10_000
VERY_SLOW_MICROS = 60_000
BUNDLE_MICROS = 50_000
PATIENCE_MICROS = 2 * BUNDLE_MICROS
CLOCK = VirtualClock()
DONE: list[tuple[int, int]] = []
SEEN: list[tuple[int, int]] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    CLOCK.micros = 0
    DONE.clear()
    SEEN.clear()


def slow(number: int) -> int:
    """Takes a hundredth of a second."""
    CLOCK.micros += SLOW_MICROS
    DONE.append((number, CLOCK.micros))
    return number


def see(number: int) -> None:
    SEEN.append((number, CLOCK.micros))


def _flow(build: Callable[[Any], Any], streaming: bool = True) -> Dataflow:
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    build(pipeline | beam.Create(range(ROWS), reshuffle=False))
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    options = JobOptions(streaming=streaming, bundle_micros=BUNDLE_MICROS)
    flow = Dataflow(plan_pipeline(proto, PLANNED_WORKERS), JobContext(CLOCK, options))
    flow.open()
    return flow


def _run(flow: Dataflow) -> list[int]:
    """Runs to the end; how many elements the slow step was through with after each piece of work."""
    counts = []
    while not flow.finished:
        flow.step()
        counts.append(len(DONE))
    flow.close()
    return counts


def _waits() -> list[int]:
    """How long each element that was seen at last had waited since the slow step gave it (microseconds)."""
    given = dict(DONE)
    return [at - given[number] for number, at in SEEN]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_stage_gives_way_when_it_has_had_a_turn(streaming: bool) -> None:
    counts = _run(_flow(lambda rows: rows | beam.Reshuffle() | beam.Map(slow), streaming))
    most = max(later - before for before, later in zip([0, *counts], counts, strict=False))
    assert (len(DONE), most) == (ROWS, 2 if streaming else ROWS)


def test_what_a_slow_step_gave_goes_on_while_it_is_at_its_next_elements() -> None:
    _run(_flow(lambda rows: rows | beam.Reshuffle() | beam.Map(slow) | "again" >> beam.Reshuffle() | beam.Map(see)))
    assert len(SEEN) == ROWS
    assert max(_waits()) <= PATIENCE_MICROS


def test_the_few_elements_that_a_slow_step_lets_through_do_not_wait_for_others() -> None:
    few = beam.Filter(lambda number: number % 50 == 0)

    def build(rows: Any) -> Any:
        return rows | beam.Reshuffle() | beam.Map(slow) | few | "again" >> beam.Reshuffle() | beam.Map(see)

    _run(_flow(build))
    assert [number for number, _ in SEEN] == [0, 50, 100, 150]
    assert max(_waits()) <= PATIENCE_MICROS


def test_what_comes_of_a_single_element_goes_on_before_all_of_it_is_there() -> None:
    """A step of the first stage is slow: all of what it sees comes of the one element of an impulse."""
    _run(_flow(lambda rows: rows | beam.Map(slow) | beam.Reshuffle() | beam.Map(see)))
    assert len(SEEN) == ROWS
    assert max(_waits()) <= PATIENCE_MICROS


class Alarm(beam.DoFn):
    """Notes when it is called back, a while after the first element came."""

    RINGS = TimerSpec("rings", TimeDomain.REAL_TIME)

    def process(self, element: tuple[str, int], rings: Any = beam.DoFn.TimerParam(RINGS)) -> None:
        if element[1] == 0:
            rings.set(CLOCK.now_seconds() + 3 * SLOW_MICROS / 1e6)

    @on_timer(RINGS)
    def ring(self) -> Iterator[int]:
        see(-1)
        yield 0


@pytest.mark.parametrize("shared", [True, False])
def test_a_timer_of_a_step_behind_a_slow_one_is_called_back_in_time(shared: bool) -> None:
    """Whether the slow step has a stage of its own, or is in that of the one element that all comes of."""

    def build(rows: Any) -> Any:
        if shared:
            rows = rows | beam.Reshuffle()
        pairs = rows | beam.Map(slow) | beam.Map(lambda number: ("k", number)).with_output_types(tuple[str, int])
        return pairs | beam.ParDo(Alarm())

    _run(_flow(build))
    ((_, at),) = SEEN
    assert at <= 4 * SLOW_MICROS + PATIENCE_MICROS


class _Reader(SplitReader[int]):
    """Gives as many elements as the slow step takes in the time that has passed."""

    def __init__(self) -> None:
        self.at = 0

    def poll(self, limit: int) -> Batch | None:
        begin, self.at = self.at, CLOCK.micros // VERY_SLOW_MICROS + 1
        return Batch(list(range(begin, self.at)), 0) if begin < self.at else None

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return 0


class Ticks(StreamSource[int]):
    """Never ends."""

    def splits(self) -> list[str]:
        return ["only"]

    def reader(self, split: Any, position: Any) -> _Reader:
        return _Reader()


class Again(beam.DoFn):
    """Calls itself back a moment after it was called back, and gives an element each time."""

    RINGS = TimerSpec("rings", TimeDomain.REAL_TIME)

    def process(self, element: tuple[str, int], rings: Any = beam.DoFn.TimerParam(RINGS)) -> None:
        if element[1] == 0:
            rings.set(CLOCK.now_seconds())

    @on_timer(RINGS)
    def ring(self, rings: Any = beam.DoFn.TimerParam(RINGS)) -> Iterator[int]:
        rings.set(CLOCK.now_seconds() + SLOW_MICROS / 1e6)
        yield len(DONE)


def very_slow(number: int) -> int:
    """Takes longer than a bundle may be open."""
    CLOCK.micros += VERY_SLOW_MICROS - SLOW_MICROS
    return slow(number)


def _ticking(rows: Any) -> Any:
    return rows


def _ringing(rows: Any) -> Any:
    pairs = beam.Map(lambda number: ("k", number)).with_output_types(tuple[str, int])
    return rows | pairs | beam.ParDo(Again())


@pytest.mark.parametrize("keeps_busy", [_ticking, _ringing])
def test_a_barrier_comes_through_though_a_slow_step_is_kept_busy(keeps_busy: Callable[[Any], Any]) -> None:
    """By what is read, or by timers: there is always work that is further downstream than the barrier."""

    def build(rows: Any) -> None:
        keeps_busy(rows.pipeline | ReadStream(Ticks())) | beam.Reshuffle() | beam.Map(very_slow)

    flow = _flow(build)
    taken: list[int] = []
    flow.on_snapshots(lambda barrier, snapshots: taken.append(len(DONE)))
    while len(DONE) < 20:
        flow.step()
    flow.checkpoint(Barrier(1))
    while not taken and len(DONE) < 40:
        flow.step()
    assert taken
    assert taken[0] < 30
    flow.close()


def test_a_barrier_comes_through_though_what_others_send_keeps_a_stage_behind_it_busy() -> None:
    """As where another worker sends to the last stage as fast as this one works: it always has something to do."""

    def build(rows: Any) -> None:
        (
            rows.pipeline
            | ReadStream(Ticks())
            | beam.Reshuffle()
            | beam.Map(str)
            | "again" >> beam.Reshuffle()
            | beam.Map(lambda value: very_slow(int(value)))
        )

    flow = _flow(build)
    taken: list[int] = []
    flow.on_snapshots(lambda barrier, snapshots: taken.append(len(DONE)))
    while len(DONE) < 5:
        flow.step()
    flow.checkpoint(Barrier(1))
    for _ in range(40):
        flow.deliver(max(flow.tasks), 0, Block(["1"], Timestamp(0), (GlobalWindow(),), NO_FIRING))
        done = len(DONE)
        while not taken and len(DONE) == done:
            flow.step()
    assert taken
    flow.close()
