"""What a host hands to the engine: time, storage, identity; and what a task hands to its operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apache_beam.metrics.execution import MetricsContainer

from sage.errors import Location
from sage.runners.engine.blocks import Block
from sage.runners.engine.metrics import StepMetrics, Tracker
from sage.runners.engine.spec import Collection, CollectionId


class Clock(Protocol):
    """The processing time of a job."""

    def now_micros(self) -> int:
        """Microseconds since the epoch."""


class SpillStore(Protocol):
    """Where a grouping puts what does not fit in memory. Runs are written once and read in order."""

    def write_run(self, records: Any) -> Any:
        """Stores an iterable of (bytes, object) records; returns a handle."""

    def read_run(self, handle: Any) -> Any:
        """The records of a handle, in the order they were written; may be called again."""

    def drop_run(self, handle: Any) -> None:
        """The records are not needed any more."""


@dataclass
class VirtualClock:
    """A clock that is moved by hand: a TestStream's, and a simulator's."""

    micros: int = 0

    def now_micros(self) -> int:
        return self.micros


@dataclass
class JobContext:
    """One job as its host runs it.

    Args:
        clock: processing time.
        locations: the line that applied each step, by full step name, where it is known.
        execution_path: ``auto``, or the only way that steps may run: ``compiled``, ``bound`` or ``general``.
        block_rows: the most values gathered before a block leaves a stage (count).
        memory_bytes: what groupings may hold before they spill (bytes); None for no limit.
        spill: where they spill to.
        draining: whether unbounded restrictions are truncated, as when a job is drained.
        workers: how many workers run the job.
        worker: which of them this is.
    """

    clock: Clock
    locations: Mapping[str, Location] = field(default_factory=dict)
    execution_path: str = "auto"
    block_rows: int = 4096
    memory_bytes: int | None = None
    spill: SpillStore | None = None
    draining: bool = False
    workers: int = 1
    worker: int = 0
    tracker: Tracker = field(default_factory=Tracker)
    containers: dict[str, MetricsContainer] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def metrics_of(self, step: str) -> MetricsContainer:
        """The metric cells of a step."""
        if step not in self.containers:
            self.containers[step] = StepMetrics(step)
        return self.containers[step]


@dataclass
class TaskContext:
    """What the operators of one task see."""

    job: JobContext
    collections: Mapping[CollectionId, Collection]
    emit: Callable[[CollectionId, Block], None]

    @property
    def tracker(self) -> Tracker:
        return self.job.tracker

    @property
    def locations(self) -> Mapping[str, Location]:
        return self.job.locations

    @property
    def block_rows(self) -> int:
        return self.job.block_rows

    @property
    def clock(self) -> Clock:
        return self.job.clock

    def metrics_of(self, step: str) -> MetricsContainer:
        """The metric cells of a step."""
        return self.job.metrics_of(step)
