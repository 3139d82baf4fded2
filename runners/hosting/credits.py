"""The exchange between workers that send each other bytes: framed messages, with credits."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any, Protocol

from sage.errors import WorkerLost
from sage.runners.engine.blocks import Block
from sage.runners.engine.dataflow import Dataflow
from sage.runners.engine.exchange import Message
from sage.runners.engine.spec import Plan
from sage.runners.engine.task import ports_of
from sage.runners.engine.wire import decode_block, encode_block

CREDIT_BYTES = 16 << 20
DRIVER = -1


class Inbox(Protocol):
    """Where everything arrives that others send to a worker; the host fills it from threads of its own."""

    def take(self, timeout: float | None) -> tuple[int, bytes | None] | None:
        """The next message and its sender; None as the message when the sender is gone.

        Args:
            timeout: how long to wait (s); 0 not at all, None without end.
        """


class CreditExchange:
    """The engine's exchange over a host's way to move bytes.

    At most `CREDIT_BYTES` are on their way to a peer that has not taken them. A worker that must wait for credit
    takes what comes and runs what can run meanwhile, so two that wait for each other both go on.

    Args:
        me: this worker.
        workers: how many there are.
        write: sends bytes to a worker, in order; raises WorkerLost when it is gone.
        inbox: where the others' bytes arrive.
        plan: the job, for the coders of what is sent.
    """

    def __init__(
        self, me: int, workers: int, write: Callable[[int, bytes], None], inbox: Inbox, plan: Plan
    ) -> None:
        self.me = me
        self.workers = workers
        self._write = write
        self._inbox = inbox
        self._owed = [0] * workers
        self._coders = [
            [plan.collections[collection].coder for collection in ports_of(stage)] for stage in plan.stages
        ]
        self._flow: Dataflow | None = None
        self._on_driver: Callable[[bytes | None], None] | None = None

    def attach(self, flow: Dataflow, on_driver: Callable[[bytes | None], None]) -> None:
        """Says where messages go: blocks and watermarks to the flow, the driver's to ``on_driver``."""
        self._flow = flow
        self._on_driver = on_driver

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        """Sends to a stage of another worker."""
        body: Any = encode_block(message, self._coders[stage][port]) if isinstance(message, Block) else message
        data = pickle.dumps((stage, port, body), pickle.HIGHEST_PROTOCOL)
        while self._owed[worker] > CREDIT_BYTES:
            assert self._flow is not None
            self.take(0 if self._flow.run_ready() else None)
        self._owed[worker] += len(data)
        self._write(worker, data)

    def take(self, timeout: float | None) -> bool:
        """Takes one message, waiting at most ``timeout`` (s; None without end); whether there was one."""
        arrived = self._inbox.take(timeout)
        if arrived is None:
            return False
        sender, data = arrived
        if sender == DRIVER:
            assert self._on_driver is not None
            self._on_driver(data)
        elif data is not None:
            self._taken(sender, data)
        # A peer that is gone has ended its part, or the driver finds that it died.
        return True

    def _taken(self, sender: int, data: bytes) -> None:
        content = pickle.loads(data)
        if isinstance(content, int):
            self._owed[sender] -= content
            return
        stage, port, body = content
        with contextlib.suppress(WorkerLost):  # a peer that has ended needs no credit
            self._write(sender, pickle.dumps(len(data)))
        if isinstance(body, bytes):
            body = decode_block(body, self._coders[stage][port])
        assert self._flow is not None
        self._flow.deliver(stage, port, body, sender)
