"""Where the calls of an actor's peers become an ordered stream of messages."""

from __future__ import annotations

import queue
import threading


class Inbox:
    """What peers send, in the order each of them sent it.

    An actor with several threads may begin calls in another order than they were made in, so each message carries
    its number, and one that comes early waits. State: for each sender the number that is next, and what waits.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._next: dict[int, int] = {}
        self._early: dict[tuple[int, int], bytes | None] = {}

    def put(self, sender: int, number: int, data: bytes | None) -> None:
        """Takes the message of a sender that has a number (from 0 on, without gaps)."""
        with self._lock:
            self._early[sender, number] = data
            due = self._next.get(sender, 0)
            while (sender, due) in self._early:
                self._queue.put((sender, self._early.pop((sender, due))))
                due += 1
            self._next[sender] = due

    def take(self, timeout: float | None) -> tuple[int, bytes | None] | None:
        """The next message and its sender, waiting at most ``timeout`` (s; 0 not at all, None without end)."""
        try:
            return self._queue.get(timeout != 0, timeout)
        except queue.Empty:
            return None
