"""One attempt at a job, simulated: a driver and its workers, each doing one thing at a time, in an order by chance."""

from __future__ import annotations

import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from sage.errors import Fault, SageError
from sage.runners.driver.checkpoint_driver import CheckpointDriver
from sage.runners.engine.checkpoint.identity import describe, stage_ids
from sage.runners.engine.checkpoint.protocol import Ask, Coordinator, Kind, Publish, Receipt, Requested
from sage.runners.engine.checkpoint.snapshot import StageSnapshot, StageState
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.simulation.fault_schedule import Crash, FaultSchedule
from sage.runners.simulation.network import Network
from sage.runners.simulation.world import SimulatedClock
from sage.runners.state.manifests import Manifest
from sage.runners.state.snapshots import CheckpointStore
from sage.runners.worker.assembly import Checkpointing, WorkerRuntime, WorkerSetup
from sage.runners.worker.credit_exchange import DRIVER, CreditExchange
from sage.runners.worker.loop import Idle, Over, turn

NO_LIMIT = 1 << 60  # bytes: a worker that waits for credit would wait inside its one turn
STEP_MICROS = 200
BLOCK_ROWS = 8
BUNDLE_MICROS = 1_000
STANDSTILL_MICROS = 3_600_000_000
MOST_THINGS = 30_000
ASKED_ONE_IN = 100


class Standstill(SageError, RuntimeError):
    """The job does not come to its end: it stands still, or has none."""

    fault = Fault.USER_CODE


class QueuedExecutor(Executor):
    """Runs what it is given when its turn comes: stands for a thread."""

    def __init__(self, schedule: FaultSchedule, name: str) -> None:
        self._schedule = schedule
        self.name = name
        self.tasks: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.tasks.append(lambda: fn(*args, **kwargs))
        return Future()

    def run_one(self) -> None:
        """Runs the first task that waits."""
        self._schedule.note("later", self.name)
        self.tasks.popleft()()


@dataclass(frozen=True)
class Setting:
    """What an attempt is made of.

    Attributes:
        plan: makes the plan for so many workers; called once for each of them, so that each has functions of its own.
        workers: how many (count).
        job: the job's name.
        interval: between two checkpoints (microseconds).
        begin: the checkpoint to begin from; None for the beginning.
        epoch: the highest epoch so far.
        execution_path: as the option of that name.
        asks: what is asked of the job on its way.
        state_backend: as the option of that name.
        scratch: a real folder for what a backend needs one for; empty for the system's.
    """

    plan: Callable[[int], Plan]
    workers: int
    job: str
    interval: int
    begin: Manifest | None = None
    epoch: int = 0
    execution_path: str = "auto"
    asks: Sequence[Ask] = ()
    state_backend: str = "memory"
    scratch: str = ""


class _Inbox:
    """What has arrived at a worker."""

    def __init__(self) -> None:
        self.arrived: deque[tuple[int, bytes]] = deque()

    def take(self, timeout: float | None) -> tuple[int, bytes] | None:
        return self.arrived.popleft() if self.arrived else None


class Worker:
    """A worker: the real stages, exchange and epochs, and a thread that stores what they hold.

    State: all that, and whether there was nothing to do when it was last asked.
    """

    def __init__(
        self,
        me: int,
        setting: Setting,
        network: Network,
        clock: SimulatedClock,
        write: Callable[[int, Mapping[str, StageSnapshot]], Receipt],
        executor: QueuedExecutor,
    ) -> None:
        self.me = me
        self._workers = setting.workers
        plan = setting.plan(setting.workers)
        options = JobOptions(
            execution_path=setting.execution_path,
            block_rows=BLOCK_ROWS,
            bundle_micros=BUNDLE_MICROS,
            job=setting.job,
            epochs=True,
            checkpoints=True,
            state_backend=setting.state_backend,
            state_dir=setting.scratch or None,
        )
        self.ids = stage_ids(plan)
        self.inbox = _Inbox()
        self.exchange = CreditExchange(
            me, setting.workers, lambda to, data: network.send(me, to, data), self.inbox, plan, NO_LIMIT
        )

        def store(epoch: int, snapshots: Mapping[int, StageSnapshot]) -> Receipt:
            return write(epoch, {self.ids[index]: snapshots[index] for index in sorted(snapshots)})

        post = lambda fact: network.send(me, DRIVER, pickle.dumps(fact))  # noqa: E731
        self._resources = ExitStack()
        self.runtime = self._resources.enter_context(
            WorkerRuntime(
                WorkerSetup(plan, options, clock, me, setting.workers),
                self.exchange,
                Checkpointing(post, store, executor),
            )
        )
        self.idle = False
        self.done = False
        self.exchange.attach(self.runtime.flow, self._obey)

    def _obey(self, message: bytes | None) -> None:
        assert self.runtime.checkpointer is not None, "every simulated job takes checkpoints"
        self.runtime.checkpointer.enqueue(pickle.loads(message or b""))

    def open(self, states: Mapping[str, StageState] | None) -> None:
        """Sets up, with what a checkpoint holds."""
        with self.runtime.entered():
            self.runtime.restore(None if states is None else {index: states[id] for index, id in self.ids.items()})

    def turn(self) -> None:
        """Takes one turn of the loop that every worker runs."""
        with self.runtime.entered():
            now = turn(self.runtime)
        self.idle = isinstance(now, Idle)
        if isinstance(now, Over):
            self.done = True
            self._resources.close()

    def receive(self) -> None:
        """Takes what has arrived."""
        with self.runtime.entered():
            self.exchange.receive(0)
        self.idle = False

    def close(self) -> None:
        """Tears down what a crash has left, as the end of a process would."""
        with suppress(BaseException):
            self._resources.__exit__(Crash, Crash(), None)


class Cluster:
    """One attempt.

    State: the driver and the workers, what is on its way between them, what they will do in threads beside, and the
    kind of the last checkpoint that was published.

    Args:
        setting: what it is made of.
        dice: decides what comes next.
        clock: the time, which goes on with every step.
        store_of: the storage of checkpoints, as a process that belongs to this attempt sees it.
        driver: the storage as the driver sees it.
    """

    def __init__(
        self,
        setting: Setting,
        schedule: FaultSchedule,
        clock: SimulatedClock,
        store_of: Callable[[], CheckpointStore],
        driver: CheckpointStore,
    ) -> None:
        self._setting = setting
        self._schedule = schedule
        self._clock = clock
        self._network = Network(schedule, self._arrive)
        self.executors: list[QueuedExecutor] = [
            QueuedExecutor(schedule, f"worker {me} stores") for me in range(setting.workers)
        ]
        self.workers = [
            Worker(me, setting, self._network, clock, _part_of(store_of(), me, setting), self.executors[me])
            for me in range(setting.workers)
        ]
        description = describe(setting.plan(setting.workers))

        def publish(decision: Publish) -> tuple[str, int]:
            taken = driver.publish(decision.epoch, decision.receipts, description, decision.kind, decision.name)
            self.last = taken.kind
            driver.retain(2)
            return taken.url, taken.size

        self.last = Kind.PERIODIC
        publishing = QueuedExecutor(schedule, "driver publishes")
        self.executors.append(publishing)
        self.checkpoint_driver = CheckpointDriver(
            Coordinator(setting.workers, setting.interval, setting.epoch, clock.now_micros()),
            publish,
            self._command,
            clock.now_micros,
            self._on_facts,
            publishing,
        )
        self._store = store_of()
        self._facts = False
        self._bias = [1 + schedule.upto(3) for _ in self.workers]
        self._requests = [Requested(ask, f"{setting.epoch}") for ask in setting.asks]

    def _command(self, command: Any) -> None:
        data = pickle.dumps(command)
        for worker in self.workers:
            self._network.send(DRIVER, worker.me, data)

    def _arrive(self, to: int, sender: int, message: bytes) -> None:
        if to == DRIVER:
            self.checkpoint_driver.post(pickle.loads(message))
        elif not self.workers[to].done:
            self.workers[to].inbox.arrived.append((sender, message))
            self.workers[to].receive()

    def run(self) -> None:
        """Runs the attempt to its end.

        Raises:
            Crash: the dice said so.
            Standstill: it does not go on.
            Exception: what a step, or the storage, raised.
        """
        begin, workers = self._setting.begin, self._setting.workers
        for worker in self.workers:
            with tempfile.TemporaryDirectory(prefix="sage-restore-", dir=self._setting.scratch or None) as copies:
                ids = worker.ids.values()
                worker.open(None if begin is None else self._store.load(begin, worker.me, workers, ids, copies))
        for _ in range(MOST_THINGS):
            if all(worker.done for worker in self.workers):
                return
            self._next_action()
            self._clock.micros += self._schedule.upto(STEP_MICROS)
        raise Standstill(
            f"the job has not ended after {MOST_THINGS} steps. A simulated job has to end by itself: give its source "
            "an end and not too many elements, and let it ask sage.runtime.now() what time it is: the system's clock "
            "stands still there"
        )

    def _next_action(self) -> None:
        """Something that could happen now, or else what time brings next."""
        could: list[Callable[[], None]] = []
        for worker in self.workers:
            if not worker.idle and not worker.done:
                could += [worker.turn] * self._bias[worker.me]
        for channel in self._network.waiting():
            could.append(lambda channel=channel: self._network.deliver(channel))  # type: ignore[misc]
        could += [executor.run_one for executor in self.executors if executor.tasks]
        if self._requests and self._schedule.one_in(ASKED_ONE_IN):
            self.checkpoint_driver.ask(self._requests.pop())
        due = self.checkpoint_driver.next_due()
        if self._facts or (due is not None and due <= self._clock.now_micros()):
            could.append(self._drive)
        if could:
            self._schedule.one_of(could)()
        else:
            self._wait(due)

    def _on_facts(self) -> None:
        self._facts = True

    def _drive(self) -> None:
        self._facts = False
        self.checkpoint_driver.run_pending()

    def _wait(self, due: int | None) -> None:
        """The clock goes on to what is next."""
        times = [wakeup for worker in self.workers if not worker.done and (wakeup := worker.runtime.flow.next_wakeup())]
        times += [due] if due is not None else []
        now = self._clock.now_micros()
        if not times or min(times) > now + STANDSTILL_MICROS:
            raise Standstill("the job stands still: nothing is to be done or on its way, and time brings nothing")
        self._clock.micros = max(now, min(times))
        for worker in self.workers:
            worker.idle = False

    def close(self) -> None:
        """Lets go of what the workers hold."""
        for worker in self.workers:
            if not worker.done:
                worker.close()


def _part_of(
    store: CheckpointStore, worker: int, setting: Setting
) -> Callable[[int, Mapping[str, StageSnapshot]], Receipt]:
    """Stores what one worker holds."""
    if setting.begin is not None:
        store.remember(setting.begin, worker, setting.workers)
    return lambda epoch, stages: store.write(epoch, worker, stages)
