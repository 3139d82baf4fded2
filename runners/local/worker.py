"""A worker process: its part of a job, from the driver's order to its report."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType

from sage.runners.deployment.nesting import refuse_jobs
from sage.runners.deployment.worker_spec import Cancelled, WorkerSpec, portable_error
from sage.runners.local.peers import Mailbox, writer
from sage.runners.worker.credit_exchange import DRIVER
from sage.runners.worker.interrupts import raise_in_engine
from sage.runners.worker.process import run_worker
from sage.runners.worker.worker_output import OutputForwarder


def work(driver: Connection, connections: list[Connection]) -> None:
    """Runs one order: reads it from the driver, and reports to it."""
    refuse_jobs()
    order: WorkerSpec
    order, levels = pickle.loads(driver.recv_bytes())
    lock = threading.RLock()  # what the collector of garbage calls may print

    def send(data: bytes) -> None:
        try:
            with lock:
                driver.send_bytes(data)
        except OSError:
            # The driver is gone. Nobody waits for the result, and a source may be at work for hours to come.
            os.kill(os.getpid(), signal.SIGKILL)

    forwarder = OutputForwarder(lambda kind, content: send(pickle.dumps(("output", kind, content))))

    def report(data: bytes) -> None:
        forwarder.flush()
        send(data)

    try:
        order.prepare()
        forwarder.install(levels)
        others = [w for w in range(order.workers) if w != order.worker]
        peers = dict(zip(others, connections, strict=True))
        mailbox = Mailbox({DRIVER: driver, **peers}, _cancelling())
        run_worker(order, writer(peers), mailbox, report)
        # Others may still send what no one needs: to them a worker that has gone would be one that is lost.
        while mailbox.take(None) != (DRIVER, None):
            pass
    except Cancelled:
        return
    except BaseException as error:  # whatever ends a worker is to be known to the driver
        with contextlib.suppress(OSError):
            forwarder.flush()
            driver.send_bytes(portable_error(error))


def _cancelling() -> Callable[[], None]:
    """What ends this worker soon, called from any thread: it goes on until the user's function at work returns.

    By the signal that asks a process to end, which means nothing else here: see `zygote`.
    """
    cancelled: list[Cancelled] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        for error in cancelled:
            raise_in_engine(frame, error)

    def cancel() -> None:
        cancelled[:] = [Cancelled()]
        signal.pthread_kill(main, signal.SIGTERM)

    main = threading.get_ident()
    signal.signal(signal.SIGTERM, on_signal)
    return cancel
