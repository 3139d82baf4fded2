"""A worker's part of a job, on any host that moves bytes between workers."""

from __future__ import annotations

import contextvars
import gc
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from sage.runners.deployment.worker_spec import Cancelled, WorkerSpec
from sage.runners.engine.operators.base.context import JobContext
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.worker.checkpointer import WorkerCheckpointer
from sage.runners.worker.credit_exchange import CreditExchange, Inbox
from sage.runners.worker.keyed_state import keyed_stores
from sage.runners.worker.metrics import cumulative
from sage.runners.worker.progress import progress_of, pulse_of
from sage.runners.worker.spilling import spill_store
from sage.runtime import set_subtask

PROGRESS_SECONDS = 0.25
SWITCH_SECONDS = 0.0002
CANCEL = b"cancel"


def run_worker(
    order: WorkerSpec, write: Callable[[int, bytes], None], inbox: Inbox, report: Callable[[bytes], None]
) -> None:
    """Runs one order to its end, all stages of the job; its reports are ``("progress" | "done", ...)`` pickled.

    Args:
        order: what to run; it is prepared for already.
        write: sends bytes to another worker.
        inbox: where what others send arrives.
        report: hears of progress several times a second, and of the end.

    Raises:
        Cancelled: the driver asked this worker to stop, or is gone.
        StepError: a step failed.
    """
    # In a context of its own: which subtask this is holds no longer than the order runs.
    contextvars.copy_context().run(_work, order, write, inbox, report)


def _work(order: WorkerSpec, send: Callable[[int, bytes], None], inbox: Inbox, report: Callable[[bytes], None]) -> None:
    plan = order.plan()
    with spill_store(order.options.memory_bytes, order.spill_dir) as spill, keyed_stores(order.options) as keyed:
        job = order.context(spill)
        job.keyed = keyed
        previous = job.tracker.install()
        set_subtask(order.worker, order.workers)
        exchange = CreditExchange(order.worker, order.workers, send, inbox, plan)
        flow = Dataflow(plan, job, exchange)
        kept, me, workers = order.checkpoints, order.worker, order.workers
        tell = lambda fact: report(pickle.dumps(("fact", fact)))  # noqa: E731
        write = None if kept is None else kept.writer(plan, me, workers)
        checkpointer = WorkerCheckpointer(flow, me, write, tell) if order.options.epochs else None
        exchange.attach(flow, lambda message: _obey(message, checkpointer))
        try:
            with patient_collector(), quick_switches(), _telling(flow, job, report):
                with nullcontext() if kept is None else kept.loaded(plan, me, workers) as states:
                    flow.open(states)
                _loop(flow, job, exchange, checkpointer)
        except BaseException:
            close_quietly(flow)
            raise
        finally:
            if checkpointer is not None:
                checkpointer.close()
            job.tracker.restore(previous)
        flow.close()
    report(pickle.dumps(("done", progress_of(flow, "DONE"), cumulative(job), dict(job.paths), dict(job.reasons))))


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

    What stores a checkpoint beside it makes twenty.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def close_quietly(flow: Dataflow) -> None:
    """Tear-down after a failure: the failure that brought us here is the one to report."""
    try:
        flow.close()
    except Exception:
        return


def _obey(message: bytes | None, checkpointer: WorkerCheckpointer | None) -> None:
    # When the driver is gone nobody wants the result.
    if message is None or message == CANCEL or checkpointer is None:
        raise Cancelled
    checkpointer.enqueue(pickle.loads(message))


@contextmanager
def _telling(flow: Dataflow, job: JobContext, report: Callable[[bytes], None]) -> Iterator[None]:
    """Reports progress from a thread of its own: one call of a source may last as long as the job."""
    over = threading.Event()

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


def _loop(flow: Dataflow, job: JobContext, exchange: CreditExchange, checkpointer: WorkerCheckpointer | None) -> None:
    while not (flow.finished if checkpointer is None else checkpointer.over):
        exchange.receive_pending()
        if checkpointer is not None:
            checkpointer.run_pending()
            if checkpointer.over:
                return
        if flow.step():
            continue
        if checkpointer is not None:
            checkpointer.report_idle()
        elif flow.finished:
            return
        wakeup = flow.next_wakeup()
        exchange.receive(None if wakeup is None else max(0.0, (wakeup - job.clock.now_micros()) / 1e6))
