"""A worker that has a process, an actor or a thread to itself: its part of a job, from its spec to its last report."""

from __future__ import annotations

import contextvars
import gc
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from sage.runners.deployment.worker_spec import Cancelled, WorkerSpec
from sage.runners.worker.assembly import Checkpointing, WorkerRuntime, WorkerSetup
from sage.runners.worker.clock import WallClock
from sage.runners.worker.credit_exchange import CreditExchange, Inbox
from sage.runners.worker.loop import Idle, Over, turn
from sage.runners.worker.metrics import cumulative
from sage.runners.worker.progress import progress_of, pulse_of

PROGRESS_SECONDS = 0.25
SWITCH_SECONDS = 0.0002
CANCEL = b"cancel"


def run_worker(
    spec: WorkerSpec, write: Callable[[int, bytes], None], inbox: Inbox, report: Callable[[bytes], None]
) -> None:
    """Runs all stages of one worker to their end; its reports are ``("progress" | "done", ...)`` pickled.

    Args:
        spec: what to run; the process is prepared for it already.
        write: sends bytes to another worker.
        inbox: where what others send arrives.
        report: hears of progress several times a second, and of the end.

    Raises:
        Cancelled: the driver asked this worker to stop, or is gone.
        StepError: a step failed.
    """
    # In a context of its own: which subtask this is holds no longer than the worker runs.
    contextvars.copy_context().run(_run, spec, write, inbox, report)


def _run(
    spec: WorkerSpec, write: Callable[[int, bytes], None], inbox: Inbox, report: Callable[[bytes], None]
) -> None:
    plan, attempt, me, workers = spec.plan(), spec.checkpoints, spec.worker, spec.workers
    exchange = CreditExchange(me, workers, write, inbox, plan)
    checkpointing = None
    if spec.options.epochs:
        store = None if attempt is None else attempt.writer(plan, me, workers)
        checkpointing = Checkpointing(lambda fact: report(pickle.dumps(("fact", fact))), store)
    setup = WorkerSetup(plan, spec.options, WallClock(), me, workers, spec.spill_dir)
    with WorkerRuntime(setup, exchange, checkpointing) as runtime:
        exchange.attach(runtime.flow, lambda message: _obey(message, runtime))
        with runtime.entered(), patient_collector(), quick_switches(), _reporting(runtime, report):
            with nullcontext() if attempt is None else attempt.loaded(plan, me, workers) as states:
                runtime.restore(states)
            while not isinstance(now := turn(runtime), Over):
                if isinstance(now, Idle):
                    exchange.receive(_seconds_until(now.wakeup, runtime))
    flow, job = runtime.flow, runtime.job
    report(pickle.dumps(("done", progress_of(flow, "DONE"), cumulative(job), dict(job.paths), dict(job.reasons))))


def _seconds_until(wakeup: int | None, runtime: WorkerRuntime) -> float | None:
    return None if wakeup is None else max(0.0, (wakeup - runtime.job.clock.now_micros()) / 1e6)


def _obey(message: bytes | None, runtime: WorkerRuntime) -> None:
    # When the driver is gone nobody wants the result.
    if message is None or message == CANCEL or runtime.checkpointer is None:
        raise Cancelled
    runtime.checkpointer.enqueue(pickle.loads(message))


@contextmanager
def patient_collector() -> Iterator[None]:
    """Has Python look for cycles less often: tables of a million rows hold none, and looking takes a third longer."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def quick_switches() -> Iterator[None]:
    """Has threads wait for each other less: a busy step keeps others waiting for 5 ms at each of their system calls.

    The thread that stores a checkpoint makes twenty.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _reporting(runtime: WorkerRuntime, report: Callable[[bytes], None]) -> Iterator[None]:
    """Reports progress from a thread of its own: one call of a source may last as long as the job."""
    over = threading.Event()
    flow, job = runtime.flow, runtime.job

    def tell() -> None:
        while not over.wait(PROGRESS_SECONDS):
            report(pickle.dumps(("progress", progress_of(flow, "RUNNING"), pulse_of(flow), cumulative(job))))

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
