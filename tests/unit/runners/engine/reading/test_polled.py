"""A stream's readers are driven directly, and by their splittable DoFn, with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from sage.errors import StepError
from sage.runners.local import LocalRunner
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
    """

    def __init__(self, splits: int, bounded: bool, fails_at: int | None = None) -> None:
        self.count, self.bounded, self.fails_at = splits, bounded, fails_at

    def splits(self) -> Sequence[int]:
        return range(self.count)

    def reader(self, split: int, position: Any) -> _Rows:
        return _Rows(split, position or 0, self.fails_at)


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
