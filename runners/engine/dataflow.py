"""The stages that one worker has, and the order in which they run."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Collection as Some
from contextlib import contextmanager
from dataclasses import dataclass

from sage.runners.engine.blocks import MIN_MICROS, Block
from sage.runners.engine.checkpoint.alignment import Alignment
from sage.runners.engine.checkpoint.snapshot import Barrier, StageSnapshot, StageState
from sage.runners.engine.context import JobContext, TaskContext
from sage.runners.engine.exchange import Exchange, Message, Partitioner, Route, routes_of, weight
from sage.runners.engine.failures import RAISED, raise_step_error, unfit_key
from sage.runners.engine.keyed.keys import key_coder
from sage.runners.engine.reading.sources import TestStreamRoot
from sage.runners.engine.root import ImpulseRoot
from sage.runners.engine.spec import CollectionId, Plan
from sage.runners.engine.task import Task
from sage.runtime import set_watermark, watermark
from sage.transactions import Later

INBOX_ROWS = 1 << 16


@dataclass
class _Alone:
    """The exchange of a worker that has no others."""

    me: int = 0
    workers: int = 1

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        raise AssertionError("there is no other worker")

    def consumed(self, sender: int, stage: int, size: int) -> None:
        raise AssertionError("there is no other worker")


class Dataflow:
    """Runs the stages of a plan at one worker.

    What is furthest downstream runs first, so that little waits between stages. An inbox that is full is emptied
    before its producer goes on: that is the backpressure inside a worker. Sources run at the first worker.

    Args:
        plan: the job.
        job: what the host hands in.
        exchange: the way to the other workers; None when there are none.
        stages: the indices of the stages that run here; None for all. Messages to other stages go over the
            exchange.
    """

    def __init__(
        self, plan: Plan, job: JobContext, exchange: Exchange | None = None, stages: Some[int] | None = None
    ) -> None:
        self.plan = plan
        self._job = job
        self._exchange: Exchange = exchange or _Alone()
        self.tasks: dict[int, Task] = {
            stage.index: Task(stage, plan, job, self._emit)
            for stage in plan.stages
            if stages is None or stage.index in stages
        }
        self._context = TaskContext(job, plan.collections, self._emit)
        self._makers = {c: step.name for stage in plan.stages for step in stage.steps for c in step.outputs.values()}
        self._routes = routes_of(plan)
        self._partitioners: dict[tuple[int, int], Partitioner] = {}
        self._channels: dict[tuple[int, int], list[int]] = {}
        for route in (r for routes in self._routes.values() for r in routes):
            place = (route.stage, route.port)
            if self._crosses(route):
                self._partitioners[place] = Partitioner(route, self._exchange.workers)
                self._channels[place] = [MIN_MICROS] * self._exchange.workers
            else:
                self._channels[place] = [MIN_MICROS]
        self._inboxes: dict[int, deque[tuple[int, Message, int, int]]] = {i: deque() for i in self.tasks}
        self._waiting = dict.fromkeys(self.tasks, 0)
        self._ready: list[int] = []
        self._queued: set[int] = set()
        self._sent: dict[CollectionId, int] = {}
        self._inside = 0
        self._at = -1
        self._sources = deque(i for i, task in self.tasks.items() if task.is_source)
        self._alignment = Alignment(self._channel_counts())
        self._wanted: deque[Barrier] = deque()
        self._taken: Callable[[Barrier, Mapping[int, StageSnapshot]], None] | None = None
        self._unbounded = any(not collection.bounded for collection in plan.collections.values())
        self._bundles_end = 0
        self._begun = False

    def _crosses(self, route: Route) -> bool:
        return route.mode != "local" and self._exchange.workers > 1

    def _channel_counts(self) -> dict[int, int]:
        counts = dict.fromkeys(self.tasks, 0)
        for (index, _), marks in self._channels.items():
            if index in counts:
                counts[index] += len(marks)
        return counts

    def open(self, states: Mapping[int, StageState] | None = None) -> None:
        """Set-up of every task.

        Args:
            states: what a checkpoint holds, by stage; None to begin anew.
        """
        for index, task in self.tasks.items():
            task.open()
            task.begin(states.get(index) if states is not None else None)
        # Sources run at the first worker; elsewhere they are at their end from the start, as those are that had
        # nothing left to give when the checkpoint was taken.
        begun = [i for i in self._sources if not self._exchange.me and not self.tasks[i].over]
        self._sources = deque(sorted(begun, key=lambda i: not isinstance(self.tasks[i].root, ImpulseRoot)))
        if states is not None:
            for (index, port), marks in self._channels.items():
                if index in states and port < len(self.tasks[index].stage.root.inputs):
                    marks[:] = [states[index].watermark] * len(marks)
        for index, task in self.tasks.items():
            if (task.is_source and index not in self._sources) or states is not None:
                self._propagate(task)

    def close(self) -> None:
        """Tear-down of every task; the first failure is raised when all are down."""
        failed: Exception | None = None
        for task in self.tasks.values():
            try:
                task.close()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    # Messages.

    def _emit(self, collection: CollectionId, block: Block) -> None:
        for route in self._routes.get(collection, ()):
            partitioner = self._partitioners.get((route.stage, route.port))
            if partitioner is None:
                self._hand(self._exchange.me, route, block)
            else:
                for worker, part in self._parts(route, partitioner, block):
                    self._hand(worker, route, part)

    def _parts(self, route: Route, partitioner: Partitioner, block: Block) -> list[tuple[int, Block]]:
        """A block in one part for each worker; keys that cannot be told apart are an error of the step they are for."""
        try:
            return list(partitioner.parts(block))
        except RAISED as error:
            cause = unfit_key(error, key_coder(route.collection.coder))
            raise_step_error(self.plan.stages[route.stage].root.name, cause, self._context, keyed=True)

    def _hand(self, worker: int, route: Route, message: Message) -> None:
        if worker == self._exchange.me and route.stage in self.tasks:
            self.deliver(route.stage, route.port, message, worker)
        else:
            try:
                self._exchange.send(worker, route.stage, route.port, message)
            except RAISED as error:
                raise_step_error(self._makers[route.collection.id], error, self._context)

    def deliver(self, index: int, port: int, message: Message, sender: int = 0, size: int = 0) -> None:
        """Puts a block, or a watermark (microseconds), into a stage's inbox.

        Args:
            index: the stage.
            port: its input.
            message: the block or the watermark.
            sender: the worker it comes from.
            size: what the sender counts a block for (bytes); where it is not 0, the exchange hears when the stage
                takes the block up.
        """
        inbox = self._inboxes[index]
        if isinstance(message, Barrier) or self._alignment.at_hand:
            channel = (port, sender if len(self._channels[index, port]) > 1 else 0)
            if self._alignment.holds(index, channel, (port, message, sender, size)):
                return
            if isinstance(message, Barrier):
                if self._alignment.pass_over(index, channel, message):
                    self._order_snapshot(index)
                return
        if isinstance(message, Block):
            inbox.append((port, message, sender, size))
            self._waiting[index] += weight(message)
            if self._waiting[index] > INBOX_ROWS and index > self._at:
                self._drain(index)
                return
        else:
            marks = self._channels[index, port]
            before = min(marks)
            at = sender if len(marks) > 1 else 0
            marks[at] = max(marks[at], message)
            if min(marks) <= before:
                return
            inbox.append((port, min(marks), sender, 0))
        self._queue(index)

    def _queue(self, index: int) -> None:
        if index not in self._queued:
            self._queued.add(index)
            heapq.heappush(self._ready, -index)

    @contextmanager
    def _at_work(self, task: Task) -> Iterator[None]:
        """The task runs: it takes nothing else meanwhile, and its own time is counted, without what runs inside."""
        now = self._job.clock.now_micros
        outer, self._inside = self._inside, 0
        started = now()
        under, self._at = self._at, task.stage.index
        behind = watermark()
        set_watermark(task.told)
        try:
            yield
        finally:
            set_watermark(behind)
            self._at = under
            spent = now() - started
            task.busy_micros += spent - self._inside
            self._inside = outer + spent

    def _drain(self, index: int) -> None:
        task, inbox = self.tasks[index], self._inboxes[index]
        with self._at_work(task):
            while inbox:
                port, message, sender, size = inbox.popleft()
                if isinstance(message, Block):
                    self._waiting[index] -= weight(message)
                    if size:
                        self._exchange.consumed(sender, index, size)
                    task.receive(port, message)
                elif isinstance(message, Barrier):
                    self._snapshot(task, message)
                else:
                    task.advance(port, message)
                    self._propagate(task)

    def _propagate(self, task: Task) -> None:
        if task.stage.index in self._sources and not isinstance(task.root, TestStreamRoot):
            return  # it has all still to give
        marks = {collection: task.output_watermark(collection) for collection in task.leaving}
        task.told = max(task.told, min(marks.values(), default=MIN_MICROS))
        set_watermark(task.told)
        for collection, mark in marks.items():
            if mark > self._sent.get(collection, MIN_MICROS):
                self._sent[collection] = mark
                for route in self._routes[collection]:
                    targets = range(self._exchange.workers) if self._crosses(route) else (self._exchange.me,)
                    for worker in targets:
                        self._hand(worker, route, mark)

    # Checkpoints.

    def on_snapshots(self, taken: Callable[[Barrier, Mapping[int, StageSnapshot]], None]) -> None:
        """Says who hears of the snapshots of a checkpoint, once every stage here has taken its own."""
        self._taken = taken

    def checkpoint(self, barrier: Barrier) -> None:
        """Begins a checkpoint, at the next moment when no stage is at work. Every worker is told of each."""
        self._wanted.append(barrier)

    def _begin_checkpoint(self) -> None:
        barrier = self._wanted.popleft()
        for index in self._alignment.begin(barrier):
            self._order_snapshot(index)
        for task in self.tasks.values():
            if not task.inputs:
                with self._at_work(task):
                    self._snapshot(task, barrier)
        if not self.tasks and self._taken is not None:
            self._taken(barrier, {})

    def _order_snapshot(self, index: int) -> None:
        """Has a stage take its snapshot when it has seen what is in its inbox: all of that came before the barrier."""
        assert self._alignment.barrier is not None
        self._inboxes[index].append((-1, self._alignment.barrier, self._exchange.me, 0))
        self._queue(index)

    def _snapshot(self, task: Task, barrier: Barrier) -> None:
        snapshot = task.snapshot(barrier.epoch, barrier.whole)
        self._propagate(task)
        for collection in task.leaving:
            for route in self._routes[collection]:
                targets = range(self._exchange.workers) if self._crosses(route) else (self._exchange.me,)
                for worker in targets:
                    self._hand(worker, route, barrier)
        index = task.stage.index
        for port, message, sender, size in self._alignment.taken(index, snapshot):
            self.deliver(index, port, message, sender, size)
        if len(self._alignment.snapshots) == len(self.tasks) and self._taken is not None:
            self._taken(barrier, self._alignment.snapshots)

    def durable(self) -> list[Later]:
        """The last checkpoint is durable: sinks commit. Gives what of it may be done beside the next epoch."""
        rest: list[Later] = []
        for task in self.tasks.values():
            with self._at_work(task):
                rest += task.durable()
        return rest

    def drain(self) -> None:
        """Ends the input: what is read from outside is read no more, and what was read goes through."""
        while self._sources:
            self._propagate(self.tasks[self._sources.popleft()])
        for task in self.tasks.values():
            with self._at_work(task):
                task.drain()
                self._propagate(task)

    # Running.

    def step(self) -> bool:
        """Does one piece of work; False when there is none until time passes or messages come."""
        if not self._begun:
            return self._begin()
        if self._wanted:
            self._begin_checkpoint()
            return True
        if self.run_ready():
            return True
        # What an impulse begins may be what a stream that never rests waits for.
        plays = self._sources and isinstance(self.tasks[self._sources[0]].root, TestStreamRoot)
        if self._sources and not plays:
            return self._poll()
        if self._wake():
            return True
        if plays:
            return self._poll()
        return self.end_bundles()

    def _begin(self) -> bool:
        """What reads from outside has its first turn ahead of any barrier: every checkpoint knows where it began."""
        if self._sources and isinstance(self.tasks[self._sources[0]].root, ImpulseRoot):
            return self._poll()
        if not self.run_ready():
            self._begun = True
            self._wake()
        return True

    def run_ready(self) -> bool:
        """Empties one inbox that has messages; whether there was one.

        While a stage is at work, as when it waits to send, only stages further downstream run. So what is at work
        is always what is furthest downstream, and no stage waits under one that waits for the same stage elsewhere.
        """
        if not self._ready or -self._ready[0] <= self._at:
            return False
        index = -heapq.heappop(self._ready)
        self._queued.discard(index)
        self._drain(index)
        return True

    def _poll(self) -> bool:
        task = self.tasks[self._sources[0]]
        if isinstance(task.root, TestStreamRoot) and self.end_bundles():
            return True
        with self._at_work(task):
            if not task.poll():
                self._sources.popleft()
            self._propagate(task)
        return True

    def end_bundles(self) -> bool:
        """Ends all open bundles; whether there were any."""
        was_open = [task for task in self.tasks.values() if task.in_bundle]
        for task in was_open:
            with self._at_work(task):
                task.end_bundle()
                self._propagate(task)
        return bool(was_open)

    def _wake(self) -> bool:
        now = self._job.clock.now_micros()
        woken = False
        if self._unbounded and now >= self._bundles_end:
            self._bundles_end = now + self._job.options.bundle_micros
            woken = self.end_bundles()
        for task in self.tasks.values():
            due = task.root.wakeup()
            if due is not None and due <= now:
                with self._at_work(task):
                    task.fire()
                    self._propagate(task)
                woken = True
        return woken

    def next_wakeup(self) -> int | None:
        """The processing time (microseconds) at which there is work again; None if time alone brings none."""
        return min((due for task in self.tasks.values() if (due := task.root.wakeup()) is not None), default=None)

    def ended(self, task: Task) -> bool:
        """Whether a task has seen the end of its input, and has put out what came of it."""
        return task.at_end and task.stage.index not in self._sources

    @property
    def finished(self) -> bool:
        """Whether every stage has seen the end of its input and has nothing left to put out."""
        return not self._ready and all(self.ended(t) and t.root.wakeup() is None for t in self.tasks.values())
