"""Sockets between worker processes of one machine: what arrives goes to one queue, what leaves is framed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from sage.errors import WorkerLost
from sage.runners.worker.credit_exchange import DRIVER
from sage.runners.worker.process import CANCEL


class Mailbox:
    """Everything that arrives at a worker, in one queue: a thread for each connection does nothing but read.

    Args:
        connections: those to read, by their senders.
        on_cancel: called when the driver cancels, for the worker may take up nothing from the queue for long.
    """

    def __init__(self, connections: dict[int, Connection], on_cancel: Callable[[], None]) -> None:
        self._on_cancel = on_cancel
        self._queue: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()
        for sender, connection in connections.items():
            threading.Thread(target=self._read, args=(sender, connection), daemon=True).start()

    def _read(self, sender: int, connection: Connection) -> None:
        try:
            while True:
                data = connection.recv_bytes()
                self._queue.put((sender, data))
                if sender == DRIVER and data == CANCEL:
                    self._on_cancel()
        except (EOFError, OSError):
            self._queue.put((sender, None))

    def take(self, timeout: float | None) -> tuple[int, bytes | None] | None:
        """The next message and its sender; None as the message when the sender is gone.

        Args:
            timeout: how long to wait (s); 0 not at all, None without end.
        """
        try:
            return self._queue.get(timeout != 0, timeout)
        except queue.Empty:
            return None


def writer(peers: dict[int, Connection]) -> Callable[[int, bytes], None]:
    """A function that sends bytes to a peer, and raises WorkerLost when it is gone."""

    def write(worker: int, data: bytes) -> None:
        try:
            peers[worker].send_bytes(data)
        except OSError as error:
            raise WorkerLost(f"worker {worker} is gone") from error

    return write
