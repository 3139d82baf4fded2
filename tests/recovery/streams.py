"""A stream that can be read again from any position, and a sink in two phases whose commits are files: for jobs that
are stopped, killed and resumed."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from sage.sources import Batch, SplitReader, StreamSource
from sage.transactions import SinkContext, TransactionalDoFn

SPLITS = ("north", "south", "west")


class _Reader(SplitReader[Any]):
    def __init__(self, split: str, position: int, upto: int, rate: int) -> None:
        self.split, self.at, self.upto, self.rate = split, position, upto, rate
        self.began, self.first = time.monotonic(), position

    def poll(self, limit: int) -> Batch | None:
        due = self.upto if not self.rate else self.first + int((time.monotonic() - self.began) * self.rate)
        end = min(self.upto, due, self.at + min(limit, 500))
        if end <= self.at:
            return None
        numbers = range(self.at, end)
        self.at = end
        return Batch([(self.split, number) for number in numbers], [number * 1_000 for number in numbers])

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return self.at * 1_000

    @property
    def finished(self) -> bool:
        return self.at >= self.upto

    def lag(self) -> int:
        return self.upto - self.at


class Numbers(StreamSource[Any]):
    """``(split, number)`` for each number below ``upto`` in each split, one for each millisecond of event time.

    Args:
        upto: how many numbers each split has (count).
        rate: how many of them appear in a second (count); 0 for all at once.
    """

    def __init__(self, upto: int, rate: int = 0) -> None:
        self.upto, self.rate = upto, rate

    def splits(self) -> Sequence[str]:
        return SPLITS

    def reader(self, split: str, position: Any) -> _Reader:
        return _Reader(split, position or 0, self.upto, self.rate)


class Committed(TransactionalDoFn):
    """Elements, in a file for each epoch and subtask that has its name only when it is committed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def recover(self, context: SinkContext, prepared: Sequence[Any]) -> None:
        self.me = context.subtask
        self.rows: list[Any] = []
        for handle in prepared:
            self.commit(handle)

    def process(self, element: Any) -> None:
        self.rows.append(element)

    def prepare(self, epoch: int) -> Any:
        if not self.rows:
            return None
        rows, self.rows = self.rows, []
        path = os.path.join(self.folder, f"{self.me}-{epoch}-{os.getpid()}")
        Path(path + ".tmp").write_text("\n".join(json.dumps(row) for row in rows))
        return path

    def commit(self, handle: Any) -> None:
        if os.path.exists(handle + ".tmp"):
            os.replace(handle + ".tmp", handle)


def committed(folder: Path) -> Counter[str]:
    """Every row that was committed, and how often."""
    return Counter(
        row for path in folder.glob("*-*") if path.suffix != ".tmp" for row in path.read_text().splitlines()
    )


class Second(beam.DoFn):
    """Counts the elements of a key and window in state, and says the count when a timer fires at the window's end."""

    COUNT = beam.transforms.userstate.CombiningValueStateSpec("count", sum)
    AT = beam.transforms.userstate.TimerSpec("at", beam.transforms.timeutil.TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        window: Any = beam.DoFn.WindowParam,
        count: Any = beam.DoFn.StateParam(COUNT),
        at: Any = beam.DoFn.TimerParam(AT),
    ) -> None:
        count.add(1)
        at.set(window.end)

    @beam.transforms.userstate.on_timer(AT)
    def tell(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        count: Any = beam.DoFn.StateParam(COUNT),
    ) -> Iterable[Any]:
        yield [key, window.start.micros // 1_000_000, count.read()]


def windowed_sums(numbers: Any) -> Any:
    """The count of each last digit, in windows of a second."""
    return (
        numbers
        | "digits" >> beam.Map(lambda pair: (pair[1] % 10, 1))
        | "seconds" >> beam.WindowInto(beam.window.FixedWindows(1))
        | "sums" >> beam.CombinePerKey(sum)
        | "with window" >> beam.Map(lambda pair, w=beam.DoFn.WindowParam: [*pair, w.start.micros // 1_000_000])
    )


def states_and_timers(numbers: Any) -> Any:
    """How many elements each split has in each second."""
    return numbers | "seconds" >> beam.WindowInto(beam.window.FixedWindows(1)) | "per split" >> beam.ParDo(Second())


def sessions_and_triggers(numbers: Any) -> Any:
    """Sessions of the numbers below fifty in each two hundred, in a list for each split."""
    return (
        numbers
        | "some" >> beam.Filter(lambda pair: pair[1] % 200 < 50)
        | "sessions" >> beam.WindowInto(beam.window.Sessions(0.02))
        | "gather" >> beam.GroupByKey()
        | "as list" >> beam.MapTuple(lambda key, values: [key, sorted(values)])
    )


def on_time_panes(numbers: Any) -> Any:
    """The count of each last digit in windows of a second, whose panes accumulate; the one on time is told."""
    by_count = beam.transforms.trigger.AfterWatermark(early=beam.transforms.trigger.AfterCount(7))
    accumulating = beam.transforms.trigger.AccumulationMode.ACCUMULATING
    on_time = beam.utils.windowed_value.PaneInfoTiming.ON_TIME
    return (
        numbers
        | "digits" >> beam.Map(lambda pair: (pair[1] % 10, 1))
        | "panes" >> beam.WindowInto(beam.window.FixedWindows(1), trigger=by_count, accumulation_mode=accumulating)
        | "sums" >> beam.CombinePerKey(sum)
        | "on time" >> beam.Filter(lambda pair, pane=beam.DoFn.PaneInfoParam: pane.timing == on_time)
        | "with window" >> beam.Map(lambda pair, w=beam.DoFn.WindowParam: [*pair, w.start.micros // 1_000_000])
    )


def beside_totals(numbers: Any) -> Any:
    """Every hundredth number of each split with how many numbers there are in its second: a side input."""
    seconds = numbers | "seconds" >> beam.WindowInto(beam.window.FixedWindows(1))
    ones = seconds | "ones" >> beam.Map(lambda pair: 1)
    totals = beam.pvalue.AsSingleton(ones | "total" >> beam.CombineGlobally(sum).without_defaults())
    hundreds = seconds | "hundreds" >> beam.Filter(lambda pair: pair[1] % 100 == 0)
    return hundreds | "beside" >> beam.Map(lambda pair, total: [*pair, total], totals)


SHAPES = {
    "sums": windowed_sums,
    "timers": states_and_timers,
    "sessions": sessions_and_triggers,
    "panes": on_time_panes,
    "sides": beside_totals,
}


def build(pipeline: Any, shape: str, upto: int, rate: int, folder: Path) -> None:
    """A job: the numbers, through one of `SHAPES`, into `Committed`."""
    from sage.sources import ReadStream

    numbers = pipeline | "numbers" >> ReadStream(Numbers(upto, rate))
    SHAPES[shape](numbers) | "commit" >> beam.ParDo(Committed(str(folder)))
