"""The coordinator of a job's checkpoints: facts in, decisions out.

Whoever drives the job tells the coordinator what has happened and does what it decides; that is all there is between
them. A checkpoint goes like this::

    Tick                     -> Start      a barrier leaves from every source
    Acknowledged, by all     -> Publish    every worker's part is stored; the manifest is written
    Declined, by one         -> Abort      but not before all have answered: till then barriers are on their way
    Published                -> Complete   it is durable: sinks commit, sources forget what lies before it

Protocol: aligned barriers, as in Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows", 2015.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

CHAIN = 16
"""The most checkpoints that build on one whole one (count): each is a file to read for a restore."""
TOLERATED = 3
"""The job fails when so many periodic checkpoints in a row do (count)."""


class Kind(enum.Enum):
    """What a checkpoint is for."""

    PERIODIC = "periodic"
    SAVEPOINT = "savepoint"
    """Asked for, with a name; the job goes on."""
    STOP = "stop"
    """A savepoint with which the job ends; it can go on from there."""
    FINAL = "final"
    """All input has ended, and the job ends with it."""

    @property
    def last(self) -> bool:
        """Whether the job ends with this checkpoint."""
        return self in (Kind.STOP, Kind.FINAL)


class Ask(enum.Enum):
    """What can be asked of a running job."""

    SAVEPOINT = "savepoint"
    STOP = "stop"
    DRAIN = "drain"
    """Sources end as if there were nothing more to come; the job ends when what they gave has run through."""


@dataclass(frozen=True)
class Receipt:
    """What a worker has stored of a checkpoint.

    Attributes:
        path: where its part is.
        size: of its part (bytes).
        checksum: CRC-32 of its part.
        whole: whether it says all; else it builds on the worker's part of the checkpoint before.
        files: by stage and name, the path and the size (bytes) of each file that the part refers to.
    """

    path: str
    size: int
    checksum: int
    whole: bool
    files: Mapping[str, Mapping[str, tuple[str, int]]] = field(default_factory=dict)


# Facts.


@dataclass(frozen=True)
class Tick:
    """It is ``now`` (microseconds)."""

    now: int


@dataclass(frozen=True)
class Acknowledged:
    """A worker has stored its part of a checkpoint."""

    worker: int
    epoch: int
    receipt: Receipt


@dataclass(frozen=True)
class Declined:
    """A worker cannot give its part of a checkpoint."""

    worker: int
    epoch: int
    why: str


@dataclass(frozen=True)
class Published:
    """The manifest of a checkpoint is durable."""

    epoch: int


@dataclass(frozen=True)
class PublishFailed:
    """The manifest of a checkpoint could not be written, or nobody knows whether it was."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Ended:
    """A worker has seen the end of all its input."""

    worker: int


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone."""

    worker: int


@dataclass(frozen=True)
class Requested:
    """Somebody asks for something; ``name`` is what a savepoint is to be called."""

    ask: Ask
    name: str = ""


Fact = Tick | Acknowledged | Declined | Published | PublishFailed | Ended | WorkerLost | Requested


# Decisions.


@dataclass(frozen=True)
class Start:
    """Send barriers: a checkpoint begins.

    Attributes:
        epoch: its number; higher than any before.
        whole: whether every part must say all; else what changed since the checkpoint before will do.
        kind: what it is for. After the barrier of one that is the last, sources are read no more.
    """

    epoch: int
    whole: bool
    kind: Kind


@dataclass(frozen=True)
class Publish:
    """Write the manifest: every worker has stored its part.

    ``receipts`` are by worker; ``name`` is that of a savepoint, or empty.
    """

    epoch: int
    receipts: Mapping[int, Receipt]
    kind: Kind
    name: str = ""


@dataclass(frozen=True)
class Complete:
    """Tell the workers that a checkpoint is durable; if it is ``final`` the job ends. Answers ``request``, if any."""

    epoch: int
    final: bool
    request: Requested | None = None


@dataclass(frozen=True)
class Abort:
    """Tell the workers that a checkpoint will not be. What they prepared for it goes with the next one."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Drain:
    """Tell the workers that sources end here. Answers ``request``."""

    request: Requested


@dataclass(frozen=True)
class Refuse:
    """Answers a request with no."""

    request: Requested
    why: str


@dataclass(frozen=True)
class Fail:
    """The job cannot go on as it is: it fails, or begins again from the last checkpoint."""

    why: str


Decision = Start | Publish | Complete | Abort | Drain | Refuse | Fail


class Phase(enum.Enum):
    """Where the coordinator stands."""

    IDLE = "idle"
    COLLECTING = "collecting"
    PUBLISHING = "publishing"
    OVER = "over"


@dataclass
class _Flight:
    """The checkpoint that is being taken: who has stored a part, and who has none to give."""

    epoch: int
    kind: Kind
    request: Requested | None
    receipts: dict[int, Receipt] = field(default_factory=dict)
    declined: dict[int, str] = field(default_factory=dict)


class Coordinator:
    """Decides when checkpoints begin, when they are durable, and when they are given up.

    At most one is in flight. Periodic ones begin ``interval`` after the one before began, and not before that one has
    ended. Requests wait for the one in flight, each is answered once. When all workers have ended there is one last
    checkpoint, also in a job that takes no others: sinks commit with it.

    State: the epoch, the checkpoint in flight with its receipts, the requests that wait, who has ended, and how large
    the parts are that a restore would have to read.

    Args:
        workers: how many there are (count).
        interval: between two checkpoints (microseconds); None where there is no place for them.
        epoch: the highest epoch so far, as that of the checkpoint restored; the first one here is above it.
        now: the time at which the job starts (microseconds).
    """

    def __init__(self, workers: int, interval: int | None, epoch: int = 0, now: int = 0) -> None:
        self.epoch = epoch
        self._workers = workers
        self._interval = interval
        self._due = None if interval is None else now + interval
        self._phase = Phase.IDLE
        self._flight: _Flight | None = None
        self._requests: deque[Requested] = deque()
        self._ended: set[int] = set()
        self._draining = False
        self._failures = 0
        self._chain = 0
        self._whole_bytes = 0
        self._changed_bytes = 0

    @property
    def phase(self) -> Phase:
        """Where the coordinator stands."""
        return self._phase

    def next_due(self) -> int | None:
        """The time (microseconds) at which a `Tick` is wanted; None if none is until something else happens."""
        return self._due if self._phase is Phase.IDLE else None

    def decide(self, fact: Fact) -> list[Decision]:
        """What is to be done now that this has happened, in order."""
        if self._phase is Phase.OVER:
            return [Refuse(fact, "the job is over")] if isinstance(fact, Requested) else []
        if isinstance(fact, Tick):
            return self._tick(fact.now)
        if isinstance(fact, Requested):
            return self._requested(fact)
        if isinstance(fact, Ended):
            self._ended.add(fact.worker)
            return self._next()
        if isinstance(fact, WorkerLost):
            return self._fail(f"worker {fact.worker} is lost")
        return self._in_flight(fact)

    def _in_flight(self, fact: Acknowledged | Declined | Published | PublishFailed) -> list[Decision]:
        """What comes of a fact about the checkpoint in flight; a fact about another comes too late."""
        flight = self._flight
        if flight is None or fact.epoch != flight.epoch:
            return []
        if isinstance(fact, Acknowledged | Declined) and self._phase is Phase.COLLECTING:
            if isinstance(fact, Acknowledged):
                flight.receipts[fact.worker] = fact.receipt
            else:
                flight.declined[fact.worker] = fact.why
            return self._answered(flight)
        if isinstance(fact, PublishFailed) and self._phase is Phase.PUBLISHING:
            return self._abort(flight, fact.why)
        if isinstance(fact, Published) and self._phase is Phase.PUBLISHING:
            return self._complete(flight)
        return []

    def _answered(self, flight: _Flight) -> list[Decision]:
        """A worker has answered. Only when all have are the barriers gone, and another checkpoint may begin."""
        if len(flight.receipts.keys() | flight.declined.keys()) < self._workers:
            return []
        if flight.declined:
            worker, why = next(iter(flight.declined.items()))
            return self._abort(flight, f"worker {worker} cannot give its part: {why}")
        self._phase = Phase.PUBLISHING
        name = flight.request.name if flight.request else ""
        return [Publish(flight.epoch, dict(flight.receipts), flight.kind, name)]

    def _tick(self, now: int) -> list[Decision]:
        if self._phase is not Phase.IDLE or self._due is None or self._interval is None or now < self._due:
            return []
        self._due = now + self._interval
        return [self._start(Kind.PERIODIC)]

    def _requested(self, request: Requested) -> list[Decision]:
        if request.ask is Ask.DRAIN:
            if self._draining:
                return [Refuse(request, "the job is draining already")]
            self._draining = True
            return [Drain(request)]
        if self._interval is None:
            return [Refuse(request, "the job has no place for checkpoints: run it with --checkpoint_dir")]
        self._requests.append(request)
        return self._next()

    def _next(self) -> list[Decision]:
        """Begins what waits for its turn."""
        if self._phase is not Phase.IDLE:
            return []
        if self._requests:
            request = self._requests.popleft()
            return [self._start(Kind.STOP if request.ask is Ask.STOP else Kind.SAVEPOINT, request)]
        if len(self._ended) == self._workers:
            return [self._start(Kind.FINAL)]
        return []

    def _start(self, kind: Kind, request: Requested | None = None) -> Start:
        self.epoch += 1
        self._phase = Phase.COLLECTING
        self._flight = _Flight(self.epoch, kind, request)
        return Start(self.epoch, self._is_whole(request), kind)

    def _is_whole(self, request: Requested | None) -> bool:
        """Whether every part must say all. A stop without a name need not: whoever stops a job waits for it."""
        long = request is not None or self._changed_bytes > self._whole_bytes
        return not 0 < self._chain < CHAIN or (long and request != Requested(Ask.STOP))

    def _complete(self, flight: _Flight) -> list[Decision]:
        self._flight, self._failures = None, 0
        self._count(flight.receipts)
        done = Complete(flight.epoch, flight.kind.last, flight.request)
        if flight.kind.last:
            return [done, *self._over("the job has ended")]
        self._phase = Phase.IDLE
        return [done, *self._next()]

    def _count(self, receipts: Mapping[int, Receipt]) -> None:
        """Keeps count of what a restore has to read."""
        size = sum(receipt.size for receipt in receipts.values())
        if all(receipt.whole for receipt in receipts.values()):
            self._chain, self._whole_bytes, self._changed_bytes = 1, size, 0
        else:
            self._chain += 1
            self._changed_bytes += size

    def _abort(self, flight: _Flight, why: str) -> list[Decision]:
        self._flight, self._phase = None, Phase.IDLE
        # The parts that were stored are no part of any chain, and what they say is not said again: begin a new one.
        self._chain = 0
        aborted: list[Decision] = [Abort(flight.epoch, why)]
        if flight.request is not None:
            return [*aborted, Refuse(flight.request, why), *self._next()]
        if flight.kind.last:
            return [*aborted, *self._fail(f"the last checkpoint failed: {why}")]
        self._failures += 1
        if self._failures >= TOLERATED:
            return [*aborted, *self._fail(f"{self._failures} checkpoints in a row failed, the last one because {why}")]
        return [*aborted, *self._next()]

    def _fail(self, why: str) -> list[Decision]:
        decisions: list[Decision] = []
        if self._flight is not None:
            decisions.append(Abort(self._flight.epoch, why))
            if self._flight.request is not None:
                decisions.append(Refuse(self._flight.request, why))
        return [*decisions, *self._over(why), Fail(why)]

    def _over(self, why: str) -> list[Decision]:
        self._phase, self._flight = Phase.OVER, None
        refused: list[Decision] = [Refuse(request, why) for request in self._requests]
        self._requests.clear()
        return refused
