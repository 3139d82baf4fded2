"""What a host hands to the engine: time, storage, identity; and what a task hands to its operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apache_beam.metrics.execution import MetricsContainer

from sage.errors import Location
from sage.runners.engine.blocks import Block
from sage.runners.engine.metrics import StepMetrics, Tracker
from sage.runners.engine.spec import Collection, CollectionId
from sage.runners.engine.spill import Memory, SpillStore


class Clock(Protocol):
    """The processing time of a job."""

    def now_micros(self) -> int:
        """Microseconds since the epoch."""


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
        fast_read: the host's own reader of bounded sources: what a (source, range tracker) holds, or None where it
            knows no faster way than the source's.
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
    fast_read: Callable[[Any, Any], Iterable[Any] | None] | None = None
    workers: int = 1
    worker: int = 0
    tracker: Tracker = field(default_factory=Tracker)
    containers: dict[str, MetricsContainer] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.memory_bytes, self.spill)

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
