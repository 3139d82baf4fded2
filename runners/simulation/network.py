"""A network that is not real: what one process sends another arrives late, and perhaps twice, but in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sage.runners.simulation.fault_schedule import FaultSchedule

Channel = tuple[int, int]
"""Who sends, and who gets it."""


@dataclass
class Network:
    """State: what is on its way in each channel with its number there, and the number that each waits for.

    Args:
        dice: decides what is sent twice.
        arrive: called with who gets it, who sent it, and what it is.
    """

    schedule: FaultSchedule
    arrive: Callable[[int, int, Any], None]
    _on_way: dict[Channel, deque[tuple[int, Any]]] = field(init=False, default_factory=dict)
    _sent: dict[Channel, int] = field(init=False, default_factory=dict)
    _expected: dict[Channel, int] = field(init=False, default_factory=dict)

    def send(self, sender: int, to: int, message: Any) -> None:
        """Puts a message on its way."""
        channel = (sender, to)
        self.schedule.point("send", f"{sender} {to}")
        number = self._sent.get(channel, 0)
        self._sent[channel] = number + 1
        queue = self._on_way.setdefault(channel, deque())
        queue.append((number, message))
        if self.schedule.one_in(16):
            queue.append((number, message))

    def waiting(self) -> list[Channel]:
        """The channels in which something is on its way."""
        return [channel for channel, queue in self._on_way.items() if queue]

    def deliver(self, channel: Channel) -> None:
        """The first message of a channel arrives; one that has arrived before is refused by its number."""
        number, message = self._on_way[channel].popleft()
        expected = self._expected.get(channel, 0)
        if number < expected:
            self.schedule.note("refused", f"{channel} {number}")
            return
        self._expected[channel] = number + 1
        self.schedule.note("deliver", f"{channel} {number}")
        self.arrive(channel[1], channel[0], message)
