"""The first checkpoint of a job, however soon it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.transforms import environments

from sage.runners.engine.checkpoint.snapshot import Barrier, StageSnapshot
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.engine.serde.wire import decode_row
from sage.runners.plan import plan_pipeline
from sage.sources import Batch, ReadStream, SplitReader, StreamSource


class _Latest(SplitReader[int]):
    """Begins at the end of what there is, as a reader of a topic may."""

    def __init__(self, position: int | None) -> None:
        self.at = 1_000 if position is None else position

    def poll(self, limit: int) -> Batch | None:
        return None

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return 0


class Topic(StreamSource[int]):
    def __init__(self, discovery_ms: int | None) -> None:
        self.discovery_ms = discovery_ms

    def splits(self) -> list[str]:
        return ["only"]

    def reader(self, split: str, position: Any) -> _Latest:
        return _Latest(position)


CLOCK = VirtualClock()


def slow(number: int) -> None:
    """Takes a second."""
    CLOCK.micros += 1_000_000


def _plan(build: Callable[[beam.Pipeline], Any]) -> Plan:
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    build(pipeline)
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    return plan_pipeline(proto, 2)  # one runs: but what is shared between two is where a stage ends


def _first(plan: Plan) -> dict[int, StageSnapshot]:
    """The first checkpoint, which is wanted before anything has run."""
    flow = Dataflow(plan, JobContext(CLOCK, JobOptions(epochs=True, checkpoints=True)))
    taken: dict[int, StageSnapshot] = {}
    flow.on_snapshots(lambda barrier, snapshots: taken.update(snapshots))
    flow.open()
    flow.checkpoint(Barrier(1, whole=True))
    while not taken:
        assert flow.step()
    flow.close()
    return taken


@pytest.mark.parametrize("discovery_ms", [None, 10])
@pytest.mark.parametrize("beside", [False, True])
def test_it_knows_where_reading_began(discovery_ms: int | None, beside: bool) -> None:
    """Also where a step of another branch has much to do."""

    def build(pipeline: beam.Pipeline) -> None:
        pipeline | ReadStream(Topic(discovery_ms))
        if beside:
            pipeline | beam.Create(range(5)) | beam.Map(slow)

    plan = _plan(build)
    taken = _first(plan)

    (reads,) = (stage.index for stage in plan.stages if stage.root.name.endswith("/Read"))
    (row,) = taken[reads].root.spread
    element, _ = decode_row(row)
    (split, (restriction, _)), _ = element.value
    assert (split, restriction) == ("only", (1_000, False))
