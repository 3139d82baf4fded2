"""Streams of which one is read faster than the other in event time, and how much of them a join keeps meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.transforms import environments

from sage.runners.engine.core.blocks import MIN_MICROS
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.operators.grouping.group import GroupRoot
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.plan import plan_pipeline
from sage.runners.simulation.fault_schedule import FaultSchedule
from sage.runners.worker.credit_exchange import CreditExchange
from sage.sources import Batch, ReadStream, SplitReader, StreamSource

SECOND = 1_000_000
WINDOW_S = 60


class Feed(StreamSource[Any]):
    """A number of rows in each split, ten for each second of event time; each row is (key, (name, place)).

    Args:
        name: whose rows they are.
        rows: how many rows each split has (count); None for no end.
        at_a_time: how many are read in one poll (count): how fast it is read.
        splits: how many splits there are (count).
        stands: from which row on it has nothing to give; None for never.
        creeps: whether its watermark moves on a little with each poll that finds nothing.
        knows_time: whether it has a watermark.
    """

    max_watermark_lead_ms = None

    def __init__(
        self,
        name: str,
        rows: int | None,
        at_a_time: int,
        splits: int = 1,
        stands: int | None = None,
        knows_time: bool = True,
        creeps: bool = False,
    ) -> None:
        self.name, self.rows, self.at_a_time, self.count = name, rows, at_a_time, splits
        self.stands, self.knows_time, self.creeps = stands, knows_time, creeps

    def splits(self) -> Sequence[Any]:
        return [f"{self.name}-{number}" for number in range(self.count)]

    def reader(self, split: str, position: Any) -> SplitReader[Any]:
        return _Reader(self, split, position or 0)


class Uneven(Feed):
    """Ten rows at a time of each split, and of the first split ``at_a_time``."""

    def reader(self, split: str, position: Any) -> SplitReader[Any]:
        at_a_time = self.at_a_time if split.endswith("-0") else 10
        return _Reader(Feed(self.name, self.rows, at_a_time), split, position or 0)


class _Reader(SplitReader[Any]):
    def __init__(self, feed: Feed, split: str, position: int) -> None:
        self.feed, self.split, self.at, self.rests, self.polls = feed, split, position, False, 0

    def poll(self, limit: int) -> Batch | None:
        feed = self.feed
        ends = [end for end in (feed.rows, feed.stands) if end is not None]
        upto = min([self.at + min(limit, feed.at_a_time), *ends])
        # As a connector has it, that fetches: one poll finds nothing behind each that finds something.
        self.rests = not self.rests
        self.polls += feed.creeps
        if self.rests or upto <= self.at:
            return None
        places = range(self.at, upto)
        self.at = upto
        return Batch(
            [(f"k{at % 7}", (self.split, at)) for at in places], [at * SECOND // 10 for at in places]
        )

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return self.at * SECOND // 10 + self.polls if self.feed.knows_time else MIN_MICROS

    @property
    def finished(self) -> bool:
        return self.feed.rows is not None and self.at >= self.feed.rows


def joined(pipeline: beam.Pipeline, *feeds: Feed) -> Any:
    """The rows of all feeds by key, in windows of a minute; each feed is an input of its own."""
    return {
        feed.name: pipeline | feed.name >> ReadStream(feed) | f"Windows {feed.name}" >> beam.WindowInto(
            beam.window.FixedWindows(WINDOW_S)
        )
        for feed in feeds
    } | "join" >> beam.CoGroupByKey()


def dataflow(*feeds: Feed, drift_micros: int | None = 5 * SECOND) -> Dataflow:
    """A worker that joins these feeds, on a virtual clock."""
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    joined(pipeline, *feeds)
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    return Dataflow(plan_pipeline(proto, 1), JobContext(VirtualClock(), JobOptions(drift_micros=drift_micros)))


class Workers:
    """Workers that join feeds, on one virtual clock; a seed says who does the next piece of work.

    Args:
        count: how many workers there are (count).
        seed: decides who works next, and so how long messages take.
        feeds: what is joined.
        drift_micros: as the option of that name.
    """

    def __init__(self, count: int, seed: int, *feeds: Feed, drift_micros: int | None = 5 * SECOND) -> None:
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        pipeline = beam.Pipeline()
        joined(pipeline, *feeds)
        proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
        self._dice = FaultSchedule(seed)
        self._clock = VirtualClock()
        self._arrived = [_Arrived() for _ in range(count)]
        self._exchanges = []
        self.flows = []
        for me in range(count):
            plan = plan_pipeline(proto, count)
            job = JobContext(self._clock, JobOptions(drift_micros=drift_micros), worker=me, workers=count)
            exchange = CreditExchange(me, count, self._write(me), self._arrived[me], plan, 1 << 60)
            flow = Dataflow(plan, job, exchange)
            exchange.attach(flow, lambda _: None)
            self._exchanges.append(exchange)
            self.flows.append(flow)

    def _write(self, me: int) -> Callable[[int, bytes], None]:
        return lambda to, data: self._arrived[to].messages.append((me, data))

    def most_held(self, rows: int) -> int:
        """How many rows all of them keep at most until so many have come (counts)."""
        for flow in self.flows:
            flow.open()
        most = 0
        while sum(map(rows_read, self.flows)) < rows:
            most = max(most, sum(map(rows_held, self.flows)))
            if not self._goes_on():
                break
        for flow in self.flows:
            flow.close()
        return most

    def _goes_on(self) -> bool:
        order = list(range(len(self.flows)))
        first = self._dice.upto(len(order))
        for me in order[first:] + order[:first]:
            if self._exchanges[me].receive(0) or self.flows[me].step():
                return True
        times = [due for flow in self.flows if (due := flow.next_wakeup()) is not None]
        self._clock.micros = max(self._clock.micros + 1, min(times, default=0))
        return bool(times)


class _Arrived:
    """What others have sent to a worker, in order."""

    def __init__(self) -> None:
        self.messages: deque[tuple[int, bytes | None]] = deque()

    def take(self, timeout: float | None) -> tuple[int, bytes | None] | None:
        return self.messages.popleft() if self.messages else None


def rows_held(flow: Dataflow) -> int:
    """How many rows the join keeps (count)."""
    roots = [task.root for task in flow.tasks.values() if isinstance(task.root, GroupRoot)]
    tables = [table for root in roots for table in root.tables.values()]
    return sum(len(values) for table in tables for values in table.values())


def rows_read(flow: Dataflow) -> int:
    """How many rows have come to the join (count)."""
    return sum(task.received for task in flow.tasks.values() if isinstance(task.root, GroupRoot))


def goes_on(flow: Dataflow) -> bool:
    """Does one piece of work, or moves the clock on to the next; False when nothing will come any more."""
    if flow.step():
        return True
    due, clock = flow.next_wakeup(), flow._job.clock
    assert isinstance(clock, VirtualClock)
    if due is None:
        return False
    clock.micros = max(clock.micros + 1, due)
    return True


def most_held(flow: Dataflow, rows: int) -> int:
    """How many rows the join keeps at most until so many have come to it (counts)."""
    flow.open()
    most = 0
    while rows_read(flow) < rows and goes_on(flow):
        most = max(most, rows_held(flow))
    flow.close()
    return most
