"""One level of a job at one worker: records in, records out. Knows nothing of Flink."""

from __future__ import annotations

import contextlib
import contextvars
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sage.runners.deployment.worker_spec import WorkerSpec, portable_error
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import JobContext
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.engine.runtime.exchange import Message
from sage.runners.engine.serde.wire import decode_block, encode_block
from sage.runners.flink.levels import depth, inputs_of, levels_of
from sage.runners.worker.keyed_state import keyed_stores
from sage.runners.worker.loop import PROGRESS_SECONDS, close_quietly
from sage.runners.worker.metrics import cumulative
from sage.runners.worker.progress import progress_of
from sage.runners.worker.spilling import spill_store
from sage.runtime import set_subtask

DRIVER = -1


class Record(NamedTuple):
    """What flows between operators: a block or a watermark for a stage, or a report for the driver.

    ``level`` is where it goes, `DRIVER` past the last operator; ``worker`` is whom it is for, or who reports;
    ``content`` is ``(stage, port, sender, block bytes | watermark)``, or ``(level of the reporter, report)``.
    """

    worker: int
    level: int
    content: tuple[Any, ...]


@dataclass
class _Outbox:
    """The engine's exchange: what is sent waits here until it is handed to the host."""

    me: int
    workers: int
    levels: tuple[int, ...]
    coders: list[list[Any]]

    def __post_init__(self) -> None:
        self.records: list[Record] = []

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        body = encode_block(message, self.coders[stage][port]) if isinstance(message, Block) else message
        self.records.append(Record(worker, self.levels[stage], (stage, port, self.me, body)))

    def receive_pending(self) -> None:
        """Messages come by calls of the host only."""

    def consumed(self, sender: int, stage: int, size: int) -> None:
        """Nobody counts: how much is on its way is up to the host."""

    def drain(self) -> list[Record]:
        """What was sent since the last call."""
        records, self.records = self.records, []
        return records


@dataclass
class _Running:
    """A part that has begun; ``awaited`` are the last watermarks still to come, as (stage, port, sender)."""

    job: JobContext
    outbox: _Outbox
    flow: Dataflow
    awaited: set[tuple[int, int, int]]

    def tracked(self, call: Callable[..., Any], *args: Any) -> Any:
        """Calls into the flow. The host may come with another thread each time, and a user's metrics find their step
        by the thread. Which subtask this is holds no longer than the call."""
        return contextvars.copy_context().run(self._tracked, call, *args)

    def _tracked(self, call: Callable[..., Any], *args: Any) -> Any:
        previous = self.job.tracker.install()
        set_subtask(self.job.worker, self.job.workers)
        try:
            return call(*args)
        finally:
            self.job.tracker.restore(previous)


class Part:
    """Runs the stages of one level at one worker.

    Watermarks come in band, so the part itself knows when its input has ended: a last watermark has come from every
    sender of every input. Then it finishes its stages, waiting for their processing-time timers if there are any.

    State: the stages' own, until the end; then nothing.

    Args:
        order: the job, as this worker is asked to do it.
        level: which of the job's levels.
    """

    def __init__(self, order: WorkerSpec, level: int) -> None:
        self._order = order
        self._level = level
        self._resources = contextlib.ExitStack()
        self._running: _Running | None = None
        self._reported = time.monotonic()
        self._over = False

    def take(self, record: Record | None) -> Iterator[Record]:
        """Takes a record, or None to begin where there is no input, and gives what comes of it.

        A record that is for a later level passes by. What a step raises comes out as a report, and this part does
        nothing more.
        """
        if record is not None and record.level != self._level:
            yield record
        elif not self._over:
            try:
                yield from self._work(record)
            except Exception as error:
                self.close()
                yield self._report(portable_error(error))

    def close(self) -> None:
        """Tears down what is still up; after this the part does nothing."""
        self._over = True
        if self._running is not None:
            close_quietly(self._running.flow)
            self._running = None
        self._resources.close()

    def _work(self, record: Record | None) -> Iterator[Record]:
        if self._running is None:
            self._running = self._open()
        running = self._running
        if record is not None:
            stage, port, sender, body = record.content
            if isinstance(body, bytes):
                body = decode_block(body, running.outbox.coders[stage][port])
            elif body >= MAX_MICROS:
                running.awaited.discard((stage, port, sender))
            running.tracked(running.flow.deliver, stage, port, body, sender)
        while running.tracked(running.flow.run_ready):
            yield from self._out(running)
        if not running.awaited:
            yield from self._finish(running)

    def _finish(self, running: _Running) -> Iterator[Record]:
        flow = running.flow
        while not flow.finished:
            if not running.tracked(flow.step) and not flow.finished:
                wakeup = flow.next_wakeup()
                assert wakeup is not None, "the input has ended and a stage still waits for some"
                time.sleep(max(0.0, (wakeup - running.job.clock.now_micros()) / 1e6))
            yield from self._out(running)
        done = progress_of(flow, "DONE")
        running.tracked(flow.close)
        self._running = None
        self.close()
        yield from running.outbox.drain()
        ways = dict(running.job.paths), dict(running.job.reasons)
        yield self._report(pickle.dumps(("done", done, cumulative(running.job), *ways)))

    def _open(self) -> _Running:
        order = self._order
        order.prepare()
        plan = order.plan()
        levels = levels_of(plan)
        share = order.options.memory_bytes and order.options.memory_bytes // depth(plan)
        order = replace(order, options=replace(order.options, memory_bytes=share))
        job = order.context(self._resources.enter_context(spill_store(share, order.spill_dir)))
        job.keyed = self._resources.enter_context(keyed_stores(order.options))
        coders = [[plan.collections[c].coder for c in stage.ports] for stage in plan.stages]
        outbox = _Outbox(order.worker, order.workers, levels, coders)
        flow = Dataflow(plan, job, outbox, [index for index, at in enumerate(levels) if at == self._level])
        running = _Running(job, outbox, flow, _last_marks(plan, levels, self._level, order))
        self._running = running  # what is set up in part is torn down when the rest of it fails
        running.tracked(flow.open)
        return running

    def _out(self, running: _Running) -> Iterator[Record]:
        yield from running.outbox.drain()
        if time.monotonic() - self._reported > PROGRESS_SECONDS:
            self._reported = time.monotonic()
            yield self._report(pickle.dumps(("progress", progress_of(running.flow, "RUNNING"))))

    def _report(self, data: bytes) -> Record:
        return Record(self._order.worker, DRIVER, (self._level, data))


def _last_marks(plan: Plan, levels: tuple[int, ...], level: int, order: WorkerSpec) -> set[tuple[int, int, int]]:
    """The (stage, port, sender) of each last watermark that a part waits for."""
    return {
        (route.stage, route.port, sender)
        for _, route in inputs_of(plan, levels, level)
        for sender in (range(order.workers) if route.mode != "local" else (order.worker,))
    }
