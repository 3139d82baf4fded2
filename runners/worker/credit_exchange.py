"""The exchange between workers that send each other bytes: framed messages, with credits."""

from __future__ import annotations

import contextlib
import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from sage.errors import WorkerLost
from sage.runners.engine.checkpoint.snapshot import Barrier
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.engine.runtime.exchange import Message
from sage.runners.engine.serde.wire import decode_block, encode_block

CREDIT_BYTES = 8 << 20
MOST_TAKEN = 64  # messages at a time
DRIVER = -1

_BLOCK, _MARK, _CREDIT, _BARRIER = range(4)
_HEAD = struct.Struct("!BII")
_NUMBER = struct.Struct("!q")


class Inbox(Protocol):
    """Where everything arrives that others send to a worker; the host fills it from threads of its own."""

    def take(self, timeout: float | None) -> tuple[int, bytes | None] | None:
        """The next message and its sender; None as the message when the sender is gone.

        Args:
            timeout: how long to wait (s); 0 not at all, None without end.
        """


class CreditExchange:
    """The engine's exchange over a host's way to move bytes.

    About ``credit`` bytes may be on their way to one stage of a peer that has not taken them up. A worker that must
    wait for credit takes what comes and runs what can run meanwhile. No set of workers can wait for each other
    forever: of the stages that wait, take one furthest downstream. What it waits for is a stage further down, which
    therefore does not wait, and whose worker runs it before it sleeps. (With one credit for all stages of a peer,
    blocks for a stage that waits itself could use up the credit of the stage it waits for.)

    A message is a head and a body: a block's bytes, a watermark (microseconds), the size (bytes) of a block that
    a stage took up, or a barrier. Only blocks need credit.

    Args:
        me: this worker.
        workers: how many there are.
        write: sends bytes to a worker, in order; raises WorkerLost when it is gone.
        inbox: where the others' bytes arrive.
        plan: the job, for the coders of what is sent.
        credit: what may be on its way to one stage of one peer (bytes); one block more may be, of any size.
    """

    def __init__(
        self,
        me: int,
        workers: int,
        write: Callable[[int, bytes], None],
        inbox: Inbox,
        plan: Plan,
        credit: int = CREDIT_BYTES,
    ) -> None:
        self.me = me
        self.workers = workers
        self._write = write
        self._inbox = inbox
        self._credit = credit
        self._owed: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._coders = [[plan.collections[collection].coder for collection in stage.ports] for stage in plan.stages]
        self._flow: Dataflow | None = None
        self._on_driver: Callable[[bytes | None], None] | None = None

    def attach(self, flow: Dataflow, on_driver: Callable[[bytes | None], None]) -> None:
        """Says where messages go: blocks and watermarks to the flow, the driver's to ``on_driver``."""
        self._flow = flow
        self._on_driver = on_driver

    def send(self, worker: int, stage: int, port: int, message: Message) -> None:
        """Sends to a stage of another worker."""
        if isinstance(message, Barrier):
            number = message.epoch << 1 | message.whole
            self._write(worker, _HEAD.pack(_BARRIER, stage, port) + _NUMBER.pack(number))
            return
        if not isinstance(message, Block):
            self._write(worker, _HEAD.pack(_MARK, stage, port) + _NUMBER.pack(message))
            return
        body = _encoded(message, self._coders[stage][port])
        while self._owed[worker, stage] > self._credit:
            assert self._flow is not None
            self.receive(0 if self._flow.run_ready() else None)
        self._owed[worker, stage] += len(body)
        self._write(worker, _HEAD.pack(_BLOCK, stage, port) + body)

    def consumed(self, sender: int, stage: int, size: int) -> None:
        """A stage here took up a block: its sender may send more."""
        with contextlib.suppress(WorkerLost):  # a peer that has ended needs no credit
            self._write(sender, _HEAD.pack(_CREDIT, stage, 0) + _NUMBER.pack(size))

    def receive_pending(self) -> None:
        """Takes what messages there are, but not so many that timers and sources wait for long."""
        for _ in range(MOST_TAKEN):
            if not self.receive(0):
                return

    def receive(self, timeout: float | None) -> bool:
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
        assert self._flow is not None
        kind, stage, port = _HEAD.unpack_from(data)
        if kind == _BLOCK:
            body = memoryview(data)[_HEAD.size :]
            block = decode_block(body, self._coders[stage][port])
            self._flow.deliver(stage, port, block, sender, len(body))
            return
        (number,) = _NUMBER.unpack_from(data, _HEAD.size)
        if kind == _MARK:
            self._flow.deliver(stage, port, number, sender)
        elif kind == _BARRIER:
            self._flow.deliver(stage, port, Barrier(number >> 1, bool(number & 1)), sender)
        else:
            self._owed[sender, stage] -= number


def _encoded(block: Block, coder: Any) -> bytes:
    """A block's bytes.

    Raises:
        TypeError: pickle refuses an element, and so does the coder of its collection.
    """
    try:
        return bytes(encode_block(block, coder))
    except Exception as error:
        raise TypeError(
            "an element cannot go to another worker, for neither pickle nor the coder of its collection, "
            f"{coder}, can encode it: {type(error).__name__}: {error}. Let the step give values that can be pickled"
        ) from error
