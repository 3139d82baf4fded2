"""The tasks of one worker, and the order in which they run."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable

from sage.runners.engine.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.context import JobContext
from sage.runners.engine.sources import TestStreamRoot
from sage.runners.engine.spec import CollectionId, Plan
from sage.runners.engine.task import Task

INBOX_ROWS = 1 << 16


class Dataflow:
    """Runs the stages of a plan that one worker has.

    What is furthest downstream runs first, so that little waits between stages. An inbox that is full is emptied
    before its producer goes on: that is the backpressure inside a worker.

    Args:
        plan: the job.
        job: what the host hands in.
        send: takes blocks and watermarks that belong to other workers; None when there are none.
    """

    def __init__(self, plan: Plan, job: JobContext, sources: Callable[[Task], bool] | None = None) -> None:
        self.plan = plan
        self._job = job
        self.tasks = [Task(stage, plan, job, self._emit) for stage in plan.stages]
        self._routes: dict[CollectionId, list[tuple[int, int]]] = {}
        for index, task in enumerate(self.tasks):
            for port, collection in enumerate(task.inputs):
                self._routes.setdefault(collection, []).append((index, port))
        self._inboxes: list[deque[tuple[int, Block | int]]] = [deque() for _ in self.tasks]
        self._rows = [0] * len(self.tasks)
        self._ready: list[int] = []
        self._queued = [False] * len(self.tasks)
        self._sent: dict[CollectionId, int] = {}
        self._sources = deque(
            i for i, task in enumerate(self.tasks) if task.is_source and (sources is None or sources(task))
        )

    def open(self) -> None:
        """Set-up of every task."""
        for task in self.tasks:
            task.open()

    def close(self) -> None:
        """Tear-down of every task; the first failure is raised when all are down."""
        failed: Exception | None = None
        for task in self.tasks:
            try:
                task.close()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    # Messages.

    def _emit(self, collection: CollectionId, block: Block) -> None:
        for index, port in self._routes.get(collection, ()):
            self.deliver(index, port, block)

    def deliver(self, index: int, port: int, message: Block | int) -> None:
        """Puts a block, or a watermark (microseconds), into a task's inbox."""
        self._inboxes[index].append((port, message))
        if isinstance(message, Block):
            self._rows[index] += len(message)
            if self._rows[index] > INBOX_ROWS and not self.tasks[index].busy:
                self._drain(index)
                return
        if not self._queued[index]:
            self._queued[index] = True
            heapq.heappush(self._ready, -index)

    def _drain(self, index: int) -> None:
        task, inbox = self.tasks[index], self._inboxes[index]
        task.busy = True
        try:
            while inbox:
                port, message = inbox.popleft()
                if isinstance(message, Block):
                    self._rows[index] -= len(message)
                    task.receive(port, message)
                else:
                    task.advance(port, message)
                    self._propagate(task)
        finally:
            task.busy = False

    def _propagate(self, task: Task) -> None:
        for collection in task.leaving:
            watermark = task.output_watermark(collection)
            if watermark > self._sent.get(collection, MIN_MICROS):
                self._sent[collection] = watermark
                for index, port in self._routes[collection]:
                    self.deliver(index, port, watermark)

    # Running.

    def step(self) -> bool:
        """Does one piece of work; False when there is none until time passes or messages come."""
        if self._ready:
            index = -heapq.heappop(self._ready)
            self._queued[index] = False
            self._drain(index)
            return True
        if self._wake():
            return True
        if self._sources:
            return self._poll()
        return self.end_bundles()

    def _poll(self) -> bool:
        task = self.tasks[self._sources[0]]
        if isinstance(task.root, TestStreamRoot) and self.end_bundles():
            return True
        if not task.poll():
            self._sources.popleft()
        self._propagate(task)
        return True

    def end_bundles(self) -> bool:
        """Ends all open bundles; whether there were any."""
        was_open = [task for task in self.tasks if task.in_bundle]
        for task in was_open:
            task.end_bundle()
            self._propagate(task)
        return bool(was_open)

    def _wake(self) -> bool:
        now = self._job.clock.now_micros()
        woken = False
        for task in self.tasks:
            due = task.root.wakeup()
            if due is not None and due <= now:
                task.fire()
                self._propagate(task)
                woken = True
        return woken

    def next_wakeup(self) -> int | None:
        """The processing time (microseconds) at which there is work again; None if time alone brings none."""
        times = [due for task in self.tasks if (due := task.root.wakeup()) is not None]
        return min(times, default=None)

    @property
    def finished(self) -> bool:
        """Whether every task has seen the end of its input."""
        return not self._ready and not self._sources and self._at_end(self.tasks)

    @staticmethod
    def _at_end(tasks: Iterable[Task]) -> bool:
        return all(task.input_watermark >= MAX_MICROS for task in tasks)
