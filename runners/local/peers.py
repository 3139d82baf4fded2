"""Sockets between worker processes of one machine: what arrives goes to one queue, what leaves is framed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from sage.errors import WorkerLost


class Mailbox:
    """Everything that arrives at a worker, in one queue: a thread for each connection does nothing but read."""

    def __init__(self, connections: dict[int, Connection]) -> None:
        self._queue: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()
        for sender, connection in connections.items():
            threading.Thread(target=self._read, args=(sender, connection), daemon=True).start()

    def _read(self, sender: int, connection: Connection) -> None:
        try:
            while True:
                self._queue.put((sender, connection.recv_bytes()))
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
