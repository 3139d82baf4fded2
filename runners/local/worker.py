"""A worker process: its part of a job, from the driver's order to its report."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
from apache_beam.internal import pickler
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.portability.api import beam_runner_api_pb2

from sage.errors import Location, StepError
from sage.runners.engine.context import JobContext
from sage.runners.engine.dataflow import Dataflow
from sage.runners.hosting.clock import WallClock
from sage.runners.local.inprocess import close_quietly
from sage.runners.hosting.metrics import cumulative
from sage.runners.local.peers import DRIVER, Cancelled, Mailbox, PeerExchange
from sage.runners.hosting.progress import progress_of
from sage.runners.hosting.spilling import spill_store
from sage.runners.hosting.textlines import fast_read
from sage.runners.plan import plan_pipeline

PROGRESS_SECONDS = 0.25


@dataclass(frozen=True)
class Order:
    """What the driver asks of one worker."""

    proto: bytes
    worker: int
    workers: int
    locations: dict[str, Location]
    execution_path: str
    memory_bytes: int | None
    spill_dir: str | None
    draining: bool
    path: tuple[str, ...]
    directory: str


def work(driver: Connection, peers: list[Connection]) -> None:
    """Runs one order: reads it from the driver, and reports to it."""
    order: Order = pickle.loads(driver.recv_bytes())
    try:
        _prepare(order)
        _run(order, driver, peers)
    except Cancelled:
        return
    except Exception as error:
        driver.send_bytes(portable_error(error))


def _prepare(order: Order) -> None:
    sys.path[:] = list(order.path)
    os.chdir(order.directory)
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    RuntimeValueProvider.set_runtime_options({})


def _run(order: Order, driver: Connection, connections: list[Connection]) -> None:
    proto = beam_runner_api_pb2.Pipeline.FromString(order.proto)
    plan = plan_pipeline(proto)
    others = [w for w in range(order.workers) if w != order.worker]
    peers = dict(zip(others, connections, strict=True))
    mailbox = Mailbox({DRIVER: driver, **peers})
    with spill_store(order.memory_bytes, order.spill_dir) as spill:
        job = JobContext(
            clock=WallClock(), locations=order.locations, execution_path=order.execution_path,
            memory_bytes=order.memory_bytes, spill=spill, draining=order.draining,
            fast_read=fast_read, workers=order.workers, worker=order.worker,
        )  # fmt: skip
        job.tracker.install()
        exchange = PeerExchange(order.worker, order.workers, peers, mailbox, plan)
        flow = Dataflow(plan, job, exchange)
        exchange.attach(flow, _obey)
        try:
            _loop(flow, job, exchange, driver)
        except BaseException:
            close_quietly(flow)
            raise
        flow.close()
    driver.send_bytes(pickle.dumps(("done", progress_of(flow, "DONE"), cumulative(job), dict(job.paths))))


def _obey(message: bytes | None) -> None:
    # The driver says one thing after its order, and when it is gone nobody wants the result either.
    raise Cancelled


def _loop(flow: Dataflow, job: JobContext, exchange: PeerExchange, driver: Connection) -> None:
    reported = time.monotonic()
    flow.open()
    while not flow.finished:
        while exchange.take(0):
            pass
        if not flow.step() and not flow.finished:
            wakeup = flow.next_wakeup()
            wait = None if wakeup is None else max(0.0, (wakeup - job.clock.now_micros()) / 1e6)
            exchange.take(PROGRESS_SECONDS if wait is None else min(wait, PROGRESS_SECONDS))
        if time.monotonic() - reported > PROGRESS_SECONDS:
            reported = time.monotonic()
            driver.send_bytes(pickle.dumps(("progress", progress_of(flow, "RUNNING"))))


def portable_error(error: Exception) -> bytes:
    """An error as bytes; a cause that cannot travel is replaced by its text."""
    text = "".join(traceback.format_exception(error))
    try:
        data = cloudpickle.dumps(("failed", error, text))
        pickle.loads(data)
        return bytes(data)
    except Exception:
        pass  # replaced below
    cause: Any = error.cause if isinstance(error, StepError) else error
    stand_in: Exception = RuntimeError(f"{type(cause).__name__}: {cause}")
    if isinstance(error, StepError):
        stand_in = StepError(error.step, stand_in, error.raised_at, error.applied_at)
    return pickle.dumps(("failed", stand_in, text))
