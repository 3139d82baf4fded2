"""Runs a job under a seed: workers, messages, crashes and recoveries in an order by chance, until it has ended."""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sage.runners.engine.checkpoint.protocol import Ask, Kind
from sage.runners.engine.core.spec import Plan
from sage.runners.simulation.cluster import Cluster, Setting, Standstill
from sage.runners.simulation.fault_schedule import Crash, CrashKind, FaultSchedule
from sage.runners.simulation.world import World
from sage.runners.state.objects import LocalObjectStore
from sage.runners.state.snapshots import CheckpointStore

PLACE = "/data/of/jobs"
NEVER = 1 << 60
MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    Attributes:
        plan: makes the plan for so many workers (count).
        read: what the job has put out, as a multiset.
        workers: the most workers that it runs on (count); after a crash there may be another number.
        crashes: the most crashes (count).
        interval: between two checkpoints (microseconds).
        job: the job's name.
        execution_path: as the option of that name.
        state_backend: as the option of that name.
        scratch: a real folder that a backend may use; empty for the system's.
    """

    plan: Callable[[int], Plan]
    read: Callable[[World], Counter[Any]] = lambda world: world.broker.read()
    workers: int = 3
    crashes: int = 3
    interval: int = 10_000
    job: str = "simulated"
    execution_path: str = "auto"
    state_backend: str = "memory"
    scratch: str = ""


@dataclass
class Outcome:
    """What came of one seed.

    Attributes:
        seed: it decided everything.
        output: what the job put out.
        log: every event, in order.
        points: how many crash points were passed (count).
        fates: the crashes there were.
        error: what ended the job before its time; None if nothing did.
    """

    seed: int
    output: Counter[Any] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    points: int = 0
    fates: list[CrashKind] = field(default_factory=list)
    error: BaseException | None = None


def uninterrupted(scenario: Scenario) -> Outcome:
    """What the job puts out on one worker, without checkpoints on the way and without crashes: the oracle."""
    return _run(scenario, World(FaultSchedule(0, crashes=0)), 1, NEVER)


def length(scenario: Scenario) -> int:
    """How many crash points a run has that is not interrupted (count)."""
    return _run(scenario, World(FaultSchedule(0, crashes=0)), scenario.workers, scenario.interval).points


def simulate(scenario: Scenario, seed: int, horizon: int) -> Outcome:
    """Runs the job under a seed.

    Args:
        scenario: the job.
        seed: decides everything; the same one gives the same log.
        horizon: what `length` says of the scenario (count).
    """
    schedule = FaultSchedule(seed, scenario.crashes, horizon)
    world = World(schedule, full=schedule.one_in(8))
    return _run(scenario, world, 1 + schedule.upto(scenario.workers - 1), scenario.interval)


def _run(scenario: Scenario, world: World, workers: int, interval: int) -> Outcome:
    return contextvars.copy_context().run(_Run(scenario, world, interval).all_attempts, workers)


class _Run:
    """One job from its first attempt to its end."""

    def __init__(self, scenario: Scenario, world: World, interval: int) -> None:
        self._scenario = scenario
        self._world = world
        self._interval = interval
        self._driver: CheckpointStore | None = None
        self._runs = 0
        self._late: list[Callable[[], None]] = []
        self.outcome = Outcome(world.schedule.seed)

    def all_attempts(self, workers: int) -> Outcome:
        """Runs attempts until one ends well, or the job cannot go on."""
        outcome, schedule = self.outcome, self._world.schedule
        with self._world.entered():
            try:
                while not self._attempt(workers):
                    workers = 1 + schedule.upto(self._scenario.workers - 1)
                self._world.disk.lose_power()  # what is put out is there to stay
                outcome.output = self._scenario.read(self._world)
            except Exception as error:
                outcome.error = error
        outcome.log, outcome.points = schedule.log, schedule.passed
        return outcome

    def _attempt(self, workers: int) -> bool:
        """Runs one attempt; whether all of the job is done."""
        schedule = self._world.schedule
        schedule.note("attempt", f"{self._runs} {workers}")
        if self._runs > MOST_ATTEMPTS:
            raise Standstill(f"the job has not ended after {MOST_ATTEMPTS} attempts")
        cluster: Cluster | None = None
        try:
            cluster = self._cluster(workers)
            cluster.run()
        except Crash:
            self._crash(cluster, schedule.one_of(list(CrashKind)))
            return False
        except Exception as error:
            # A full disk fails checkpoints, and too many of them the job, which then begins again.
            if not self._world.full:
                raise
            schedule.note("fails", type(error).__name__)
            self._world.full = not schedule.one_in(4)
            self._crash(cluster, CrashKind.KILLED)
            return False
        return cluster.last is Kind.FINAL

    def _crash(self, cluster: Cluster | None, fate: CrashKind) -> None:
        schedule = self._world.schedule
        self.outcome.fates.append(fate)
        schedule.note("fate", fate.value)
        if fate is CrashKind.POWER:
            self._world.disk.lose_power()
        if fate is CrashKind.WORKER and cluster is not None:
            self._late = [task for executor in cluster.executors[:-1] for task in executor.tasks]
        else:
            self._late = []
            self._world.disk.locked.clear()
            self._driver = None
        if cluster is not None:
            schedule.ending = (
                True  # functions are torn down for the sake of this process: those that crashed do no more
            )
            cluster.close()
            schedule.ending = False

    def _asks(self) -> list[Ask]:
        """What is asked of the job in this attempt: now and then a savepoint, or to stop with one."""
        schedule = self._world.schedule
        return [ask for ask in (Ask.SAVEPOINT, Ask.STOP) if schedule.one_in(4)]

    def _store(self, run: str = "") -> CheckpointStore:
        objects = LocalObjectStore(PLACE, self._world.disk, mark=f"{self._runs}")
        return CheckpointStore(PLACE, self._scenario.job, run, objects, self._world.clock.now_seconds)

    def _cluster(self, workers: int) -> Cluster:
        if self._driver is None:
            driver = self._store()
            driver.acquire()
            self._driver = driver
        driver = self._driver
        self._runs += 1
        begin = driver.choose(None)
        run = driver.new_run(f"run{self._runs}")
        scenario = self._scenario
        setting = Setting(
            scenario.plan,
            workers,
            scenario.job,
            self._interval,
            begin,
            driver.last_epoch(),
            scenario.execution_path,
            self._asks() if self._interval != NEVER else (),
            scenario.state_backend,
            scenario.scratch,
        )
        cluster = Cluster(setting, self._world.schedule, self._world.clock, lambda: self._store(run), driver)
        cluster.executors[0].tasks.extend(self._late)
        self._late = []
        return cluster
