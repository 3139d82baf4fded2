"""The simulated jobs, each from streams into two kinds of sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.internal import pickler
from apache_beam.transforms import environments
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, Sessions

from sage.runners.engine.core.spec import Plan
from sage.runners.plan import plan_pipeline
from sage.runners.simulation.simulator import Scenario
from sage.runners.simulation.world import Recorder
from sage.sources import ReadStream
from sage.transforms.io import WriteJsonLines
from sage.transforms.joins import IntervalJoin
from tests.simulation.file_systems import DISK, FOLDER, OBJECTS
from tests.simulation.kafka import ToKafka
from tests.simulation.parts import Events, FileSink, read_all

FIVE_SECONDS = 5_000_000


def _next_due(held: Any) -> Any:
    """The next full five seconds after the first event that is held."""
    first = min(stamp for stamp, _ in held.read())
    return beam.utils.timestamp.Timestamp(micros=(first // FIVE_SECONDS + 1) * FIVE_SECONDS)


def counted(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Events by key in windows of ten seconds."""
    _write(_counts(pipeline, source), "sum", sink)


def _counts(pipeline: beam.Pipeline, source: Events) -> Any:
    return (
        pipeline
        | "Read" >> ReadStream(source)
        | "Window" >> beam.WindowInto(FixedWindows(10))
        | "Sum" >> beam.CombinePerKey(sum)
    )


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
    events = pipeline | "Read" >> ReadStream(source).with_output_types(tuple[str, int])
    _write(events | "Settle" >> beam.ParDo(Settle()), "settled", sink)


class Matched(beam.DoFn):
    """What two streams have of a key in a window, in an order that does not depend on their arrival."""

    def process(self, element: Any) -> Iterator[Any]:
        key, sides = element
        yield key, sorted(sides["left"]), sorted(sides["right"])


def _two_streams(pipeline: beam.Pipeline, source: Events) -> tuple[Any, Any]:
    """The events, and a second stream of them."""
    left, right = (
        pipeline | f"Read {name}" >> ReadStream(read).with_output_types(tuple[str, int])
        for name, read in (("left", source), ("right", Events(source.count, parts=1)))
    )
    return left, right


def _write(rows: Any, name: str, sink: FileSink) -> None:
    rows | "Broker" >> beam.ParDo(Recorder(name))
    rows | "Files" >> beam.ParDo(sink)


def joined(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Two streams, joined by key in windows of five seconds."""
    left, right = (
        side | f"Window {number}" >> beam.WindowInto(FixedWindows(5))
        for number, side in enumerate(_two_streams(pipeline, source))
    )
    sides = {"left": left, "right": right}
    _write(sides | "Join" >> beam.CoGroupByKey() | "Match" >> beam.ParDo(Matched()), "joined", sink)


def near(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Two streams, joined by how near their events are in time."""
    _write(_two_streams(pipeline, source) | "Near" >> IntervalJoin(within=2, how="left"), "near", sink)


def in_sessions(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """The events of each key, in sessions."""
    grouped = (
        pipeline
        | "Read" >> ReadStream(source).with_output_types(tuple[str, int])
        | "Sessions" >> beam.WindowInto(Sessions(2))
        | "Gather" >> beam.GroupByKey()
    )
    _write(grouped | "Sort" >> beam.MapTuple(lambda key, values: (key, sorted(values))), "session", sink)


def beside(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Events with what another stream has in their window, as a side input."""
    left, right = (
        side | f"Window {number}" >> beam.WindowInto(FixedWindows(5))
        for number, side in enumerate(_two_streams(pipeline, source))
    )
    seen = left | "Look" >> beam.Map(lambda event, others: (event, len(others)), beam.pvalue.AsList(right))
    _write(seen, "beside", sink)


def to_files(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Counts by window, as `counted`, into the folders of two of the product's own sinks."""
    counts = _counts(pipeline, source)
    counts | "Objects" >> WriteJsonLines(f"{OBJECTS}://{FOLDER}/objects")
    counts | "Parts" >> WriteJsonLines(f"{DISK}://{FOLDER}/parts", max_file_bytes=64)


def to_kafka(pipeline: beam.Pipeline, source: Events, sink: FileSink) -> None:
    """Counts by window, as `counted`, through the product's own sink of Kafka."""
    counts = _counts(pipeline, source) | "Window's end" >> beam.Map(lambda pair, w=beam.DoFn.WindowParam: (pair, w.end))
    rows = counts | "Encode" >> beam.Map(lambda row: (None, repr(row).encode()))
    rows | "Kafka" >> beam.ParDo(ToKafka())


Build = Callable[[beam.Pipeline, Events, FileSink], None]
PIPELINES: dict[str, Build] = {"count": counted, "state": settled, "join": joined}
MORE: dict[str, Build] = {"near": near, "sessions": in_sessions, "beside": beside, "files": to_files, "kafka": to_kafka}
KEEP_STATE = ("state", "near")
"""Those whose keyed state a backend keeps."""


def scenario(build: Build, source: Events | None = None, sink: FileSink | None = None, **options: Any) -> Scenario:
    """A pipeline as the simulator takes it."""
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    build(pipeline, source or Events(), sink or FileSink())
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())

    def plan(workers: int) -> Plan:
        return plan_pipeline(proto, workers)

    return Scenario(plan, read_all, **options)
