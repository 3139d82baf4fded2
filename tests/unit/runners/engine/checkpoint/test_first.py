"""The first checkpoint of a job, however soon it begins."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.transforms import environments

from sage.runners.engine.checkpoint.snapshot import Barrier, StageSnapshot
from sage.runners.engine.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.dataflow import Dataflow
from sage.runners.engine.wire import decode_row
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


@pytest.mark.parametrize("discovery_ms", [None, 10])
def test_it_knows_where_reading_began(discovery_ms: int | None) -> None:
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    pipeline | ReadStream(Topic(discovery_ms))
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    plan = plan_pipeline(proto, 1)
    flow = Dataflow(plan, JobContext(VirtualClock(), JobOptions(epochs=True, checkpoints=True)))
    taken: dict[int, StageSnapshot] = {}
    flow.on_snapshots(lambda barrier, snapshots: taken.update(snapshots))

    flow.open()
    flow.checkpoint(Barrier(1, whole=True))
    while not taken:
        assert flow.step()
    flow.close()

    (reads,) = (stage.index for stage in plan.stages if stage.root.name.endswith("/Read"))
    (row,) = taken[reads].root.spread
    element, _ = decode_row(row)
    (split, (restriction, _)), _ = element.value
    assert (split, restriction) == ("only", (1_000, False))
