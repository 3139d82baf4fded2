"""What a host hands to the engine: time, storage, identity; and what a task hands to its operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apache_beam.metrics.execution import MetricsContainer

from sage.errors import Location
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.keyed_store import KeyedStore
from sage.runners.engine.core.spec import Collection, CollectionId, Plan
from sage.runners.engine.memory.manager import MemoryManager, SpillStore
from sage.runners.engine.operators.base.metrics import StepMetrics, Tracker


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

    def now_seconds(self) -> float:
        """The same instant in seconds."""
        return self.micros / 1e6


@dataclass(frozen=True)
class JobOptions:
    """How a job is to run, the same at every worker.

    Args:
        locations: the line that applied each step, by full step name, where it is known.
        execution_path: ``auto``, or the only way that steps may run: ``compiled``, ``bound`` or ``general``.
        block_rows: the most values gathered before a block leaves a stage (count).
        memory_bytes: what the groupings of a worker may hold before they spill (bytes); None for no limit.
        streaming: whether elements are not to wait for long, also where all input is bounded.
        draining: whether unbounded restrictions are truncated, as when a job is drained.
        bundle_micros: how long elements of a stream may wait for what they came with (microseconds): an unbounded
            restriction is split, and a bundle of a stream ends, after so long.
        job: the job's name.
        epochs: whether the host drives transactional sinks: at least once, when all input has ended.
        checkpoints: whether there will be snapshots before that, so that what changes between them is worth noting.
        state_backend: where the host is to keep keyed state: ``memory`` or ``rocksdb``.
        state_dir: the folder for its files there; None for the system's temporary folder.
        allow_dropped_state: whether splits that a source does not read any more may be left behind.
        drift_micros: how far apart in event time the splits of a stream are read that feed one grouping (microseconds);
            None for no limit.
    """

    locations: Mapping[str, Location] = field(default_factory=dict)
    execution_path: str = "auto"
    block_rows: int = 4096
    memory_bytes: int | None = None
    streaming: bool = False
    draining: bool = False
    bundle_micros: int = 50_000
    job: str = "sage-job"
    epochs: bool = False
    checkpoints: bool = False
    state_backend: str = "memory"
    state_dir: str | None = None
    allow_dropped_state: bool = False
    drift_micros: int | None = 5_000_000


@dataclass
class JobContext:
    """One job at one worker, as its host runs it.

    Args:
        clock: processing time.
        options: how the job is to run.
        spill: where groupings put what does not fit in memory.
        fast_read: the host's own reader of bounded sources: what a (source, range tracker) holds, or None where it
            knows no faster way than the source's.
        worker: which worker this is.
        workers: how many there are.
        keyed: makes the store of a step's keyed state, by the step's name; None for state in memory.
    """

    clock: Clock
    options: JobOptions = field(default_factory=JobOptions)
    spill: SpillStore | None = None
    fast_read: Callable[[Any, Any], Iterable[Any] | None] | None = None
    worker: int = 0
    workers: int = 1
    keyed: Callable[[str], KeyedStore] | None = None
    tracker: Tracker = field(init=False, default_factory=Tracker)
    containers: dict[str, MetricsContainer] = field(init=False, default_factory=dict)
    paths: dict[str, str] = field(init=False, default_factory=dict)
    reasons: dict[str, str] = field(init=False, default_factory=dict)
    memory: MemoryManager = field(init=False)

    def __post_init__(self) -> None:
        self.memory = MemoryManager(self.options.memory_bytes, self.spill)

    def metrics_of(self, step: str) -> MetricsContainer:
        """The metric cells of a step."""
        if step not in self.containers:
            self.containers[step] = StepMetrics(step)
        return self.containers[step]


def streams(plan: Plan, options: JobOptions) -> bool:
    """Whether elements of a job are not to wait for long: it is a stream, or asked to be run like one."""
    return options.streaming or plan.unbounded


@dataclass
class TaskContext:
    """What the operators of one task see."""

    job: JobContext
    collections: Mapping[CollectionId, Collection]
    emit: Callable[[CollectionId, Block], None]
    streams: bool = False

    @property
    def tracker(self) -> Tracker:
        return self.job.tracker

    @property
    def locations(self) -> Mapping[str, Location]:
        return self.job.options.locations

    @property
    def block_rows(self) -> int:
        return self.job.options.block_rows

    @property
    def clock(self) -> Clock:
        return self.job.clock

    def metrics_of(self, step: str) -> MetricsContainer:
        """The metric cells of a step."""
        return self.job.metrics_of(step)
