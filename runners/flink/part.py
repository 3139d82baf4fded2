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
from sage.runners.engine.runtime.exchange import Message
from sage.runners.engine.serde.wire import decode_block, encode_block
from sage.runners.flink.levels import depth, inputs_of, levels_of
from sage.runners.worker.assembly import WorkerRuntime, WorkerSetup
from sage.runners.worker.clock import WallClock
from sage.runners.worker.loop import Idle, Over, turn
from sage.runners.worker.metrics import cumulative
from sage.runners.worker.process import PROGRESS_SECONDS
from sage.runners.worker.progress import progress_of

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


class Part:
    """Runs the stages of one level at one worker.

    Watermarks come in band, so the part itself knows when its input has ended: a last watermark has come from every
    sender of every input. Then it finishes its stages, waiting for their processing-time timers if there are any.

    State: the stages' own, until the end; then nothing.

    Args:
        spec: the job, as this worker is asked to do it.
        level: which of the job's levels.
    """

    def __init__(self, spec: WorkerSpec, level: int) -> None:
        self._spec = spec
        self._level = level
        self._resources = contextlib.ExitStack()
        self._runtime: WorkerRuntime | None = None
        self._awaited: set[tuple[int, int, int]] = set()  # last watermarks to come, as (stage, port, sender)
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
        """Tears down what is still up, whatever that raises; after this the part does nothing."""
        self._over = True
        failure = RuntimeError("the part ended before its input did")
        with contextlib.suppress(Exception):
            self._resources.__exit__(RuntimeError, failure, None)

    def _work(self, record: Record | None) -> Iterator[Record]:
        runtime = self._runtime or self._open()
        if record is not None:
            stage, port, sender, body = record.content
            if isinstance(body, bytes):
                body = decode_block(body, self._outbox.coders[stage][port])
            elif body >= MAX_MICROS:
                self._awaited.discard((stage, port, sender))
            self._call(runtime.flow.deliver, stage, port, body, sender)
        # Not whole turns: those end bundles when there is nothing else to do, and Flink has more records to give.
        while self._call(runtime.flow.run_ready):
            yield from self._out(runtime)
        if not self._awaited:
            yield from self._finish(runtime)

    def _finish(self, runtime: WorkerRuntime) -> Iterator[Record]:
        while not isinstance(now := self._call(turn, runtime), Over):
            if isinstance(now, Idle):
                assert now.wakeup is not None, "the input has ended and a stage still waits for some"
                time.sleep(max(0.0, (now.wakeup - runtime.job.clock.now_micros()) / 1e6))
            yield from self._out(runtime)
        done = progress_of(runtime.flow, "DONE")
        self._over = True
        contextvars.copy_context().run(self._resources.close)
        yield from self._outbox.drain()
        ways = dict(runtime.job.paths), dict(runtime.job.reasons)
        yield self._report(pickle.dumps(("done", done, cumulative(runtime.job), *ways)))

    def _open(self) -> WorkerRuntime:
        spec = self._spec
        spec.prepare()
        plan = spec.plan()
        levels = levels_of(plan)
        share = spec.options.memory_bytes and spec.options.memory_bytes // depth(plan)
        coders = [[plan.collections[c].coder for c in stage.ports] for stage in plan.stages]
        self._outbox = _Outbox(spec.worker, spec.workers, levels, coders)
        self._awaited = _last_marks(plan, levels, self._level, spec)
        setup = WorkerSetup(
            plan,
            replace(spec.options, memory_bytes=share),
            WallClock(),
            spec.worker,
            spec.workers,
            spec.spill_dir,
            [index for index, at in enumerate(levels) if at == self._level],
        )
        self._runtime = contextvars.copy_context().run(
            self._resources.enter_context, WorkerRuntime(setup, self._outbox)
        )
        self._call(self._runtime.restore, None)
        return self._runtime

    def _call(self, call: Callable[..., Any], *args: Any) -> Any:
        """Calls into the worker. Flink may come with another thread each time."""
        return contextvars.copy_context().run(self._entered, call, *args)

    def _entered(self, call: Callable[..., Any], *args: Any) -> Any:
        assert self._runtime is not None, "calls come after `_open`"
        with self._runtime.entered():
            return call(*args)

    def _out(self, runtime: WorkerRuntime) -> Iterator[Record]:
        yield from self._outbox.drain()
        if time.monotonic() - self._reported > PROGRESS_SECONDS:
            self._reported = time.monotonic()
            yield self._report(pickle.dumps(("progress", progress_of(runtime.flow, "RUNNING"))))

    def _report(self, data: bytes) -> Record:
        return Record(self._spec.worker, DRIVER, (self._level, data))


def _last_marks(plan: Plan, levels: tuple[int, ...], level: int, order: WorkerSpec) -> set[tuple[int, int, int]]:
    """The (stage, port, sender) of each last watermark that a part waits for."""
    return {
        (route.stage, route.port, sender)
        for _, route in inputs_of(plan, levels, level)
        for sender in (range(order.workers) if route.mode != "local" else (order.worker,))
    }
