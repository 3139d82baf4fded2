"""A cluster whose workers are threads of this process: the exchange of real workers, without their processes."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.transforms import environments

from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.plan import plan_pipeline
from sage.runners.worker.assembly import WorkerRuntime, WorkerSetup
from sage.runners.worker.clock import WallClock
from sage.runners.worker.credit_exchange import CreditExchange
from sage.runners.worker.loop import Idle, Over, turn
from tests.patience import patience


class Inbox:
    """What the others sent, in order."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()

    def take(self, timeout: float | None) -> tuple[int, bytes | None] | None:
        try:
            return self.queue.get(timeout != 0, timeout)
        except queue.Empty:
            return None


class Threads:
    """Runs a plan on workers that are threads.

    State: the largest message, and the most bytes that were on their way to one stage of one worker from one other.

    Args:
        workers: how many (count).
        credit: what each exchange is given (bytes).
        block_rows: the most values of a block (count).
    """

    def __init__(self, workers: int, credit: int, block_rows: int = 4096) -> None:
        self.workers = workers
        self.largest = 0
        self.most_owed = 0
        self._credit = credit
        self._options = JobOptions(block_rows=block_rows)
        self._inboxes = [Inbox() for _ in range(workers)]
        self._errors: list[BaseException] = []

    def run(self, build: Callable[[beam.Pipeline], Any], timeout: float = patience(60)) -> None:
        """Runs what ``build`` applies to a pipeline.

        Raises:
            TimeoutError: it was not done in time (s).
        """
        pickler.set_library(pickler.USE_CLOUDPICKLE)
        pipeline = beam.Pipeline()
        build(pipeline)
        proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
        threads = [
            threading.Thread(target=self._work, args=(me, plan_pipeline(proto, self.workers)), daemon=True)
            for me in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout
        for thread in threads:
            # Where one has failed, the others would wait for it.
            while thread.is_alive() and not self._errors and time.monotonic() < deadline:
                thread.join(0.05)
        if self._errors:
            raise self._errors[0]
        if any(thread.is_alive() for thread in threads):
            raise TimeoutError(f"the workers wait for each other: {[t.is_alive() for t in threads]}")

    def _work(self, me: int, plan: Plan) -> None:
        try:
            exchange = Watched(me, self.workers, self._write(me), self._inboxes[me], plan, self._credit)
            setup = WorkerSetup(plan, self._options, WallClock(), me, self.workers)
            with WorkerRuntime(setup, exchange) as runtime:
                exchange.attach(runtime.flow, lambda _: None)
                with runtime.entered():
                    runtime.restore(None)
                    while not isinstance(now := turn(runtime), Over):
                        if isinstance(now, Idle):
                            exchange.receive(None if now.wakeup is None else 0.01)
            self.most_owed = max(self.most_owed, exchange.most_owed)
        except BaseException as error:
            self._errors.append(error)

    def _write(self, me: int) -> Callable[[int, bytes], None]:
        def write(to: int, data: bytes) -> None:
            self.largest = max(self.largest, len(data))
            self._inboxes[to].queue.put((me, data))

        return write


class Watched(CreditExchange):
    """Remembers the most that was owed."""

    most_owed = 0

    def send(self, worker: int, stage: int, port: int, message: Any) -> None:
        super().send(worker, stage, port, message)
        self.most_owed = max(self.most_owed, self._owed[worker, stage])


class Sink:
    """Where functions of a pipeline put what they saw, by name; one for each test, in this process only."""

    found: Counter[Any] = Counter()  # functions that were pickled find it by its class
    lock = threading.Lock()

    @classmethod
    def put(cls, value: Any) -> None:
        with cls.lock:
            cls.found[value] += 1
