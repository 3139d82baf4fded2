"""A stream's readers are driven directly, and by their splittable DoFn, with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import environments

from sage.errors import Fault, StepError
from sage.runners.engine.checkpoint.snapshot import Barrier, RootState, StageSnapshot, StageState
from sage.runners.engine.core.blocks import MIN_MICROS, Block
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.operators.base.operator import Output
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.engine.serde.wire import decode_row
from sage.runners.local import LocalRunner
from sage.runners.plan import plan_pipeline
from sage.sources import Batch, ReadStream, SplitReader, StreamSource

ROWS = 100
RUNNERS = ("apache_beam.runners.portability.fn_api_runner.FnApiRunner", "sage.runners.local.LocalRunner")


class _Rows(SplitReader[int]):
    def __init__(self, split: int, position: int, fails_at: int | None) -> None:
        self.split, self.at, self.fails_at, self.rests = split, position, fails_at, False

    def poll(self, limit: int) -> Batch | None:
        self.rests = not self.rests
        if self.rests or self.finished:  # every other time there is nothing yet
            return None
        if self.fails_at is not None and self.at >= self.fails_at:
            raise OSError("the stream broke")
        rows = range(self.at, min(self.at + 7, ROWS))
        self.at = rows.stop
        return Batch([(self.split, row) for row in rows], [row * 1_000_000 for row in rows])

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return self.at * 1_000_000

    @property
    def finished(self) -> bool:
        return self.at >= ROWS


class Rows(StreamSource[Any]):
    """So many splits of `ROWS` rows, a row for each second.

    Args:
        splits: how many there are (count).
        bounded: whether they end for the runner, too.
        fails_at: the row that cannot be read.
        discovery_ms: as of any source.
    """

    def __init__(
        self, splits: int, bounded: bool, fails_at: int | None = None, discovery_ms: int | None = None
    ) -> None:
        self.count, self.bounded, self.fails_at, self.discovery_ms = splits, bounded, fails_at, discovery_ms

    def splits(self) -> Sequence[int]:
        return range(self.count)

    def reader(self, split: int, position: Any) -> _Rows:
        return _Rows(split, position or 0, self.fails_at)

    def accepts(self, split: int) -> bool:
        return split < self.count


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("options", [[], ["--execution_path=general"], ["--workers=2"]])
def test_every_row_comes_once_at_its_time(options: list[str], bounded: bool) -> None:
    with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(options)) as pipeline:
        rows = pipeline | ReadStream(Rows(2, bounded))
        stamped = rows | beam.Map(lambda row, stamp=beam.DoFn.TimestampParam: (*row, int(stamp)))
        assert_that(stamped, equal_to([(split, row, row) for split in (0, 1) for row in range(ROWS)]))


@pytest.mark.parametrize("runner", RUNNERS)
def test_windows_fire_by_the_watermark_of_the_slowest_split(runner: str) -> None:
    with beam.Pipeline(runner, options=PipelineOptions(["--direct_running_mode=in_memory"])) as pipeline:
        counts = (
            pipeline
            | ReadStream(Rows(2, bounded=True))
            | beam.WindowInto(beam.window.FixedWindows(10))
            | beam.Map(lambda row: (row[0], 1))
            | beam.CombinePerKey(sum)
            | beam.Map(lambda pair, window=beam.DoFn.WindowParam: (*pair, int(window.start)))
        )
        assert_that(counts, equal_to([(split, 10, start) for split in (0, 1) for start in range(0, ROWS, 10)]))


def test_a_reader_that_raises_names_its_step() -> None:
    pipeline = beam.Pipeline(runner=LocalRunner())
    pipeline | "rows" >> ReadStream(Rows(1, bounded=False, fails_at=50))
    with pytest.raises(StepError, match=r"rows(.|\n)*the stream broke"):
        pipeline.run().wait_until_finish()


def _flow(source: Rows, at: int = 0, allow_dropped_state: bool = False) -> Dataflow:
    """A worker for such a pipeline whose clock stands still (at, seconds)."""
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    pipeline | "rows" >> ReadStream(source)
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    options = JobOptions(epochs=True, checkpoints=True, allow_dropped_state=allow_dropped_state)
    return Dataflow(plan_pipeline(proto, 1), JobContext(VirtualClock(at * 1_000_000), options))


def _checkpoint(flow: Dataflow) -> dict[int, StageSnapshot]:
    taken: dict[int, StageSnapshot] = {}
    flow.on_snapshots(lambda barrier, snapshots: taken.update(snapshots))
    for _ in range(4):
        flow.step()
    flow.checkpoint(Barrier(1, whole=True))
    while not taken:
        assert flow.step()
    flow.close()
    return taken


def _state(taken: dict[int, StageSnapshot]) -> dict[int, StageState]:
    return {
        index: StageState(of.watermark, RootState(spread=of.root.spread, shared=of.root.shared))
        for index, of in taken.items()
    }


def _splits(taken: dict[int, StageSnapshot]) -> list[int]:
    """The splits that the reader has a position in."""
    last = taken[max(taken)].root.spread
    return sorted(decode_row(row)[0].value[0][0] for row in last)


@pytest.mark.parametrize("discovery_ms", [None, 10])
def test_a_split_that_the_source_does_not_name_any_more_is_refused_or_left_behind(discovery_ms: int | None) -> None:
    flow = _flow(Rows(3, bounded=False, discovery_ms=discovery_ms))
    flow.open()
    taken = _checkpoint(flow)
    assert _splits(taken) == [0, 1, 2]

    with pytest.raises(StepError, match=r"the checkpoint reads 1, 2, which(.|\n)*running 'rows/Read'") as caught:
        _flow(Rows(1, False, discovery_ms=discovery_ms)).open(_state(taken))
    assert caught.value.fault is Fault.CONFIGURATION

    left = _flow(Rows(1, False, discovery_ms=discovery_ms), at=1, allow_dropped_state=True)
    left.open(_state(taken))
    taken = _checkpoint(left)
    assert _splits(taken) == [0]

    again = _flow(Rows(3, False, discovery_ms=discovery_ms), at=2)
    again.open(_state(taken))
    assert _splits(_checkpoint(again)) == [0] + [1, 2] * (discovery_ms is not None)


def test_a_source_without_a_split_is_watched_until_there_is_one() -> None:
    flow = _flow(Rows(0, bounded=False, discovery_ms=10))
    flow.open()
    taken = _checkpoint(flow)
    assert _splits(taken) == []
    assert taken[max(taken)].watermark == MIN_MICROS

    later = _flow(Rows(2, False, discovery_ms=10), at=1)
    later.open(_state(taken))
    assert _splits(_checkpoint(later)) == [0, 1]


class _Endless(SplitReader[int]):
    """Always has as much as it is asked for."""

    def __init__(self, split: int, position: int) -> None:
        self.split, self.at = split, position

    def poll(self, limit: int) -> Batch:
        rows = range(self.at, self.at + limit)
        self.at = rows.stop
        return Batch([(self.split, row) for row in rows], 0)

    @property
    def ready(self) -> bool:
        return True

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return 0


class Endless(Rows):
    def reader(self, split: int, position: Any) -> Any:
        return _Endless(split, position or 0)


CLOCK = VirtualClock(0)
SEEN: list[int] = []


def slow(row: tuple[int, int]) -> None:
    """Takes a second."""
    SEEN.append(row[0])
    CLOCK.micros += 1_000_000


def test_a_barrier_and_the_other_splits_wait_for_a_few_slow_elements_only() -> None:
    SEEN.clear()
    pipeline = beam.Pipeline()
    pipeline | "rows" >> ReadStream(Endless(3, bounded=False)) | "slow" >> beam.Map(slow)
    plan = plan_pipeline(pipeline.to_runner_api(), 1)
    flow = Dataflow(plan, JobContext(CLOCK, JobOptions(epochs=True, checkpoints=True)))
    flow.open()
    while len(SEEN) < 40:
        assert flow.step()
    before = len(SEEN)
    _checkpoint(flow)
    assert len(SEEN) - before <= 5
    assert set(SEEN[20:]) == {0, 1, 2}


class _Ready(_Rows):
    """Has all there is in memory, and notes how much it is asked for."""

    ready = True

    def poll(self, limit: int) -> Batch | None:
        rows = range(self.at, min(self.at + limit, ROWS))
        ASKED.append(len(rows))
        self.at = rows.stop
        return Batch(list(rows), 0) if rows else None


ASKED: list[int] = []


class Ready(Rows):
    def reader(self, split: int, position: Any) -> _Ready:
        return _Ready(split, position or 0, None)


class Heavy(Ready):
    max_poll_records = 5


@pytest.mark.parametrize(("source", "most"), [(Ready, 37), (Heavy, 5)])
def test_a_source_says_how_much_of_it_is_read_before_the_steps_behind_have_their_turn(
    source: type[Ready], most: int
) -> None:
    ASKED.clear()
    flow = _flow(source(1, bounded=False))
    flow.open({})
    for _ in range(100):
        flow.step()
    flow.close()
    assert (sum(ASKED), max(ASKED)) == (ROWS, most)


class _Timed(_Ready):
    """Gives two rows at a time, at one time or each at its own."""

    def poll(self, limit: int) -> Batch | None:
        rows = range(self.at, min(self.at + 2, 8))
        self.at = rows.stop
        own_time = self.split > 1
        return Batch(list(rows), [row * 1_000 for row in rows] if own_time else 7_000) if rows else None

    @property
    def finished(self) -> bool:
        return self.at >= 8


class Timed(Rows):
    def reader(self, split: int, position: Any) -> _Timed:
        return _Timed(split, position or 0, None)


def test_what_the_splits_give_in_a_turn_leaves_together_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[Block] = []
    receive = Output.receive_block

    def noted(self: Output, block: Block) -> None:
        if block.values and isinstance(block.values[0], int):
            blocks.append(block)
        receive(self, block)

    monkeypatch.setattr(Output, "receive_block", noted)
    flow = _flow(Timed(4, bounded=False))
    flow.open({})
    for _ in range(100):
        flow.step()
    flow.close()
    rows = [[(value.value, value.timestamp.micros) for value in block.windowed_values()] for block in blocks]
    assert [(2, 7_000), (3, 7_000)] * 2 in rows
    assert [(0, 0), (1, 1_000)] * 2 in rows
    assert sum(map(len, blocks)) == 32
