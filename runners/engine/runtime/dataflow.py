"""The stages that one worker has, and the order in which they run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Collection as Some

from sage.runners.engine.checkpoint.alignment import Alignment
from sage.runners.engine.checkpoint.snapshot import Barrier, StageSnapshot, StageState
from sage.runners.engine.core.adaptive_batch import TURNS_PER_BUNDLE
from sage.runners.engine.core.blocks import MIN_MICROS, Block
from sage.runners.engine.core.spec import CollectionId, Plan
from sage.runners.engine.operators.base.context import JobContext, TaskContext, streams
from sage.runners.engine.operators.base.failures import RAISED, raise_step_error
from sage.runners.engine.operators.base.root import ImpulseRoot
from sage.runners.engine.operators.reading.polled import PolledRoot
from sage.runners.engine.operators.reading.sources import TestStreamRoot
from sage.runners.engine.operators.reading.watermark_alignment import ALIGNMENT_PORT, align
from sage.runners.engine.runtime.exchange import Exchange, Message, NoExchange, Route
from sage.runners.engine.runtime.inboxes import Inboxes
from sage.runners.engine.runtime.routing import Routing
from sage.runners.engine.runtime.stage_clock import StageClock
from sage.runners.engine.runtime.task import Task
from sage.runtime import set_watermark
from sage.transactions import Deferred


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
        self.exchange: Exchange = exchange or NoExchange()
        self._clock = StageClock(job.clock.now_micros, job.options.bundle_micros)
        self.tasks: dict[int, Task] = {
            stage.index: Task(stage, plan, job, self._emit, self._clock.own_micros)
            for stage in plan.stages
            if stages is None or stage.index in stages
        }
        self._context = TaskContext(job, plan.collections, self._emit)
        self._makers = {c: step.name for stage in plan.stages for step in stage.steps for c in step.outputs.values()}
        self._routing = Routing(plan, self.exchange.me, self.exchange.workers, self._context)
        self._channels = {place: [MIN_MICROS] * count for place, count in self._routing.channels.items()}
        self._inboxes = Inboxes(self.tasks)
        self._sent: dict[CollectionId, int] = {}
        self._sources = deque(i for i, task in self.tasks.items() if task.is_source)
        self._alignment = Alignment(self._routing.channels_of(self.tasks))
        self._pending_barriers: deque[Barrier] = deque()
        self._on_snapshots: Callable[[Barrier, Mapping[int, StageSnapshot]], None] | None = None
        self._streams = streams(plan, job.options)
        self._bundles_end = 0
        self._begun = False
        self._reading = [i for i, task in self.tasks.items() if task.root.reads_external]
        self._feeding = sorted(plan.feeding(self._reading) & self.tasks.keys())
        roots = {i: root for i in self._reading if isinstance(root := self.tasks[i].root, PolledRoot) and root.aligns}
        drift = job.options.drift_micros if self._streams else None
        self._aligned = {} if drift is None else align(plan, roots, drift, self.exchange)

    def open(self, states: Mapping[int, StageState] | None = None) -> None:
        """Set-up of every task.

        Args:
            states: what a checkpoint holds, by stage; None to begin anew.
        """
        for index, task in self.tasks.items():
            task.open()
            task.restore(states.get(index) if states is not None else None)
        # Sources run at the first worker; elsewhere they are at their end from the start, as those are that had
        # nothing left to give when the checkpoint was taken.
        begun = [i for i in self._sources if not self.exchange.me and not self.tasks[i].over]
        self._sources = deque(sorted(begun, key=lambda i: not isinstance(self.tasks[i].root, ImpulseRoot)))
        if states is not None:
            for (index, port), marks in self._channels.items():
                if index in states and port < len(self.tasks[index].stage.root.inputs):
                    marks[:] = [states[index].watermark] * len(marks)
        for index, task in self.tasks.items():
            if (task.is_source and index not in self._sources) or states is not None:
                self._emit_watermarks(task)

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

    def _emit(self, collection: CollectionId, block: Block) -> None:
        for route, worker, part in self._routing.parts(collection, block):
            self._route(worker, route, part)

    def _route(self, worker: int, route: Route, message: Message) -> None:
        if worker == self.exchange.me and route.stage in self.tasks:
            self.deliver(route.stage, route.port, message, worker)
        else:
            try:
                self.exchange.send(worker, route.stage, route.port, message)
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
        if port == ALIGNMENT_PORT:
            self._aligned[index].hear(sender, message)  # type: ignore[arg-type]
            return
        if isinstance(message, Barrier) or self._alignment.in_progress:
            channel = (port, sender if len(self._channels[index, port]) > 1 else 0)
            if self._alignment.blocks(index, channel, (port, message, sender, size)):
                return
            if isinstance(message, Barrier):
                if self._alignment.on_barrier(index, channel, message):
                    self._order_snapshot(index)
                return
        if isinstance(message, Block):
            self._inboxes.put(index, (port, message, sender, size))
            if index > self._clock.running:
                self._run_downstream(index)
            return
        marks = self._channels[index, port]
        before = min(marks)
        at = sender if len(marks) > 1 else 0
        marks[at] = max(marks[at], message)
        if min(marks) > before:
            self._inboxes.put(index, (port, min(marks), sender, 0))

    def _run_downstream(self, index: int) -> None:
        """Runs what is further downstream than the stage at work, where that must not wait until the stage is through:
        the next stage has more waiting than it should, or what waits has waited for as long as a bundle may be open.
        """
        while self._inboxes.full(index) and self.run_ready():
            pass
        if self._streams and self._clock.over_time:
            with self._clock.yielding():
                self.exchange.receive_pending()
                while self.run_ready() or self._end_due():
                    pass
                self._fire_due(self._clock.running + 1)

    def _process_inbox(self, index: int) -> None:
        """Takes what waits for a stage: all of it, or in a stream what there is time for in a turn."""
        task, now = self.tasks[index], self._job.clock.now_micros
        with self._clock.entered(task):
            ends = now() + self._job.options.bundle_micros // TURNS_PER_BUNDLE
            while (entry := self._inboxes.take(index)) is not None:
                port, message, sender, size = entry
                if isinstance(message, Block):
                    self._receive(task, port, message, sender, size)
                    if self._streams and now() >= ends:
                        self._inboxes.queue(index)
                        return
                elif isinstance(message, Barrier):
                    self._snapshot(task, message)
                else:
                    task.advance(port, message)
                    self._emit_watermarks(task)

    def _receive(self, task: Task, port: int, block: Block, sender: int, size: int) -> None:
        """Hands a block to a stage: as much as it has room for. The sender hears when the last of it is taken up."""
        rows = task.batch_size(port)
        if len(block) > rows:
            self._inboxes.put_back(task.stage.index, (port, block.pick(slice(rows, None)), sender, size))
            block, size = block.pick(slice(rows)), 0
        if size:
            self.exchange.consumed(sender, task.stage.index, size)
        began = self._clock.own_micros()
        task.receive(port, block)
        task.portion.observe(len(block), self._clock.own_micros() - began)
        self._end_if_due(task)

    def _emit_watermarks(self, task: Task) -> None:
        if task.in_bundle:
            return  # the end of the bundle may put out what came before
        if task.stage.index in self._sources and not isinstance(task.root, TestStreamRoot):
            return  # it has all still to give
        marks = {collection: task.output_watermark(collection) for collection in task.leaving}
        task.emitted_watermark = max(task.emitted_watermark, min(marks.values(), default=MIN_MICROS))
        set_watermark(task.emitted_watermark)
        for collection, mark in marks.items():
            if mark > self._sent.get(collection, MIN_MICROS):
                self._sent[collection] = mark
                for route, worker in self._routing.all(collection):
                    self._route(worker, route, mark)

    # Checkpoints.

    def on_snapshots(self, taken: Callable[[Barrier, Mapping[int, StageSnapshot]], None]) -> None:
        """Says who hears of the snapshots of a checkpoint, once every stage here has taken its own."""
        self._on_snapshots = taken

    def checkpoint(self, barrier: Barrier) -> None:
        """Begins a checkpoint, at the next moment when no stage is at work. Every worker is told of each."""
        self._pending_barriers.append(barrier)

    def _begin_checkpoint(self) -> None:
        barrier = self._pending_barriers.popleft()
        for index in self._alignment.begin(barrier):
            self._order_snapshot(index)
        for task in self.tasks.values():
            if not task.inputs:
                with self._clock.entered(task):
                    self._snapshot(task, barrier)
        if not self.tasks and self._on_snapshots is not None:
            self._on_snapshots(barrier, {})

    def _order_snapshot(self, index: int) -> None:
        """Has a stage take its snapshot when it has seen what is in its inbox: all of that came before the barrier."""
        assert self._alignment.barrier is not None
        self._inboxes.put(index, (-1, self._alignment.barrier, self.exchange.me, 0))

    def _snapshot(self, task: Task, barrier: Barrier) -> None:
        snapshot = task.snapshot(barrier.epoch, barrier.whole)
        self._emit_watermarks(task)
        for collection in task.leaving:
            for route, worker in self._routing.all(collection):
                self._route(worker, route, barrier)
        index = task.stage.index
        for port, message, sender, size in self._alignment.on_snapshot(index, snapshot):
            self.deliver(index, port, message, sender, size)
        if len(self._alignment.snapshots) == len(self.tasks) and self._on_snapshots is not None:
            self._on_snapshots(barrier, self._alignment.snapshots)

    def on_checkpoint_complete(self) -> list[Deferred]:
        """The last checkpoint is durable: sinks commit. Gives what of it may be done beside the next epoch."""
        rest: list[Deferred] = []
        for task in self.tasks.values():
            with self._clock.entered(task):
                rest += task.on_checkpoint_complete()
        return rest

    def drain(self) -> None:
        """Ends the input: what is read from outside is read no more, and what was read goes through."""
        while self._sources:
            self._emit_watermarks(self.tasks[self._sources.popleft()])
        for task in self.tasks.values():
            with self._clock.entered(task):
                task.drain()
                self._emit_watermarks(task)

    # Running.

    def step(self) -> bool:
        """Does one piece of work; False when there is none until time passes or messages come."""
        if not self._begun:
            return self._begin()
        if self._pending_barriers:
            self._begin_checkpoint()
            return True
        if self._fire_overdue() or self.run_ready():
            return True
        # What an impulse begins may be what a stream that never rests waits for.
        plays = self._sources and isinstance(self.tasks[self._sources[0]].root, TestStreamRoot)
        if self._sources and not plays:
            return self._poll()
        if self._fire_due():
            return True
        if plays:
            return self._poll()
        return self._end_due(at_rest=True)

    def _begin(self) -> bool:
        """What reads from outside has its first turn ahead of any barrier: every checkpoint knows where it began."""
        if self._sources and isinstance(self.tasks[self._sources[0]].root, ImpulseRoot):
            return self._poll()
        for index in self._feeding:
            if self._inboxes.holds(index):
                self._process_inbox(index)
                return True
        self._begun = True
        self._fire_due()
        return True

    def run_ready(self) -> bool:
        """Empties one inbox that has messages; whether there was one.

        While a stage is at work, as when it waits to send, only stages further downstream run. So what is at work
        is always what is furthest downstream, and no stage waits under one that waits for the same stage elsewhere.
        """
        index = self._inboxes.next(self._clock.running)
        if index is None:
            return False
        self._process_inbox(index)
        return True

    def _poll(self) -> bool:
        task = self.tasks[self._sources[0]]
        if isinstance(task.root, TestStreamRoot) and self.end_bundles():
            return True
        with self._clock.entered(task):
            if not task.poll():
                self._sources.popleft()
            self._emit_watermarks(task)
        return True

    def end_bundles(self) -> bool:
        """Ends all bundles that are open; whether there were any."""
        was_open = [task for task in self.tasks.values() if task.in_bundle]
        for task in was_open:
            self._end_bundle(task)
        return bool(was_open)

    def _end_bundle(self, task: Task) -> None:
        with self._clock.entered(task):
            task.end_bundle()
            self._emit_watermarks(task)

    def _end_due(self, at_rest: bool = False) -> bool:
        """Ends the bundles further downstream than the stage at work that are not kept open any longer.

        Args:
            at_rest: whether there is nothing else to do.
        """
        now, ended = self._job.clock.now_micros(), False
        for task in self.tasks.values():
            if task.in_bundle and task.stage.index > self._clock.running and self._due(task, now, at_rest):
                self._end_bundle(task)
                ended = True
        return ended

    def _due(self, task: Task, now: int, at_rest: bool = False) -> bool:
        if task.limits is None or (at_rest and now >= task.limits.idle_until):
            return True
        reading = (self.tasks[index].root.behind for index in self._reading)
        return task.limits.due(now, self._inboxes.holds(task.stage.index) or any(reading))

    def _end_if_due(self, task: Task) -> None:
        """Ends the bundle that the stage at work keeps open, if it is time."""
        if task.limits is not None and task.in_bundle and self._due(task, self._job.clock.now_micros()):
            task.end_bundle()
            self._emit_watermarks(task)

    def _fire_overdue(self) -> bool:
        """Does what is due by the clock though there is other work, once per bundle time; returns whether it did and no
        barrier waits. The stage furthest downstream comes first: else a barrier there might wait while the clock
        keeps others busy, or end a bundle that has just begun.
        """
        first = self._inboxes.furthest
        if first < 0 or not self._streams or self._job.clock.now_micros() < self._bundles_end:
            return False
        self._process_inbox(first)
        self._fire_due(first)
        return not self._inboxes.barriers

    def _fire_due(self, first: int = 0) -> bool:
        """Ends bundles that were open for long, and fires what is due of the stages from ``first`` on."""
        now = self._job.clock.now_micros()
        woken = False
        if self._streams and now >= self._bundles_end:
            self._bundles_end = now + self._job.options.bundle_micros
            woken = self._end_due()
        for index, task in self.tasks.items():
            due = task.root.wakeup()
            if due is not None and due <= now and index >= first:
                with self._clock.entered(task):
                    task.fire()
                    self._emit_watermarks(task)
                    self._end_if_due(task)
                woken = True
        return woken

    def next_wakeup(self) -> int | None:
        """The processing time (microseconds) at which there is work again; None if time alone brings none."""
        times = [due for task in self.tasks.values() if (due := task.root.wakeup()) is not None]
        times += [t.limits.idle_until for t in self.tasks.values() if t.limits is not None and t.in_bundle]
        return min(times, default=None)

    def ended(self, task: Task) -> bool:
        """Whether a task has seen the end of its input, and has put out what came of it."""
        return task.at_end and task.stage.index not in self._sources

    @property
    def finished(self) -> bool:
        """Whether every stage has seen the end of its input and has nothing left to put out."""
        return not self._inboxes and all(self.ended(t) and t.root.wakeup() is None for t in self.tasks.values())
