"""The simulated jobs: a count in windows, state with timers, and a join, each from streams into two kinds of sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.internal import pickler
from apache_beam.transforms import environments
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows

from sage.runners.engine.spec import Plan
from sage.runners.plan import plan_pipeline
from sage.runners.simulation.simulator import Scenario
from sage.runners.simulation.world import Recorder
from sage.sources import ReadStream
from tests.simulation.parts import Events, FileSink, read_all

FIVE_SECONDS = 5_000_000


def _next_due(held: Any) -> Any:
    """The next full five seconds after the first event that is held."""
    first = min(stamp for stamp, _ in held.read())
    return beam.utils.timestamp.Timestamp(micros=(first // FIVE_SECONDS + 1) * FIVE_SECONDS)


def counted(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Events by key in windows of ten seconds."""
    counts = (
        pipeline
        | "Read" >> ReadStream(source)
        | "Window" >> beam.WindowInto(FixedWindows(10))
        | "Sum" >> beam.CombinePerKey(sum)
    )
    counts | "Broker" >> beam.ParDo(Recorder("sum"))
    counts | "Files" >> beam.ParDo(sink)


@beam.typehints.with_input_types(tuple[str, int])
class Settle(beam.DoFn):
    """Gathers the events of a key, and gives every five seconds of event time those that are due; counts them, ever."""

    HELD = BagStateSpec("held", coders.FastPrimitivesCoder())
    SETTLED = ReadModifyWriteStateSpec("settled", coders.VarIntCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, int],
        stamp: Any = beam.DoFn.TimestampParam,
        held: Any = beam.DoFn.StateParam(HELD),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> None:
        held.add((stamp.micros, element[1]))
        due.set(_next_due(held))

    @on_timer(DUE)
    def settle(
        self,
        key: Any = beam.DoFn.KeyParam,
        stamp: Any = beam.DoFn.TimestampParam,
        held: Any = beam.DoFn.StateParam(HELD),
        settled: Any = beam.DoFn.StateParam(SETTLED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterable[Any]:
        events = sorted(held.read())
        ready = [event for event in events if event[0] < stamp.micros]
        held.clear()
        for event in events[len(ready) :]:
            held.add(event)
        if events[len(ready) :]:
            due.set(_next_due(held))
        before = settled.read() or 0
        settled.write(before + len(ready))
        yield key, before, [value for _, value in ready]


def settled(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """State and timers by key."""
    rows = pipeline | "Read" >> ReadStream(source) | "Settle" >> beam.ParDo(Settle())
    rows | "Broker" >> beam.ParDo(Recorder("settled"))
    rows | "Files" >> beam.ParDo(sink)


class Matched(beam.DoFn):
    """What two streams have of a key in a window, in an order that does not depend on their arrival."""

    def process(self, element: Any) -> Iterator[Any]:
        key, sides = element
        yield key, sorted(sides["left"]), sorted(sides["right"])


def joined(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Two streams, joined by key in windows of five seconds."""
    sides = {
        name: pipeline
        | f"Read {name}" >> ReadStream(Events(source.count, parts) if source.parts != parts else source)
        | f"Window {name}" >> beam.WindowInto(FixedWindows(5))
        for name, parts in (("left", source.parts), ("right", 1))
    }
    rows = sides | "Join" >> beam.CoGroupByKey() | "Match" >> beam.ParDo(Matched())
    rows | "Broker" >> beam.ParDo(Recorder("joined"))
    rows | "Files" >> beam.ParDo(sink)


Build = Callable[[beam.Pipeline, Events, FileSink], None]
PIPELINES: dict[str, Build] = {"count": counted, "state": settled, "join": joined}


def scenario(build: Build, source: Events | None = None, sink: FileSink | None = None, **options: Any) -> Scenario:
    """A pipeline as the simulator takes it."""
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    build(pipeline, source or Events(), sink or FileSink())
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())

    def plan(workers: int) -> Plan:
        return plan_pipeline(proto, workers)

    return Scenario(plan, read_all, **options)
