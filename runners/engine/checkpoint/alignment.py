"""Alignment: a stage takes its snapshot when the barrier has come over every one of its channels.

What comes over a channel after the barrier waits until then: it belongs to the next epoch.

Source: Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows", 2015, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sage.runners.engine.checkpoint.snapshot import Barrier, StageSnapshot

Channel = tuple[int, int]
"""A port of a stage, and the worker at the channel's other end."""


class Alignment:
    """The checkpoint at hand, at one worker.

    State: its barrier; for each stage the channels that the barrier came over, and what came over them since; the
    stages that have every barrier; and the snapshots that were taken.

    Args:
        channels: how many channels each stage has (count).
    """

    def __init__(self, channels: Mapping[int, int]) -> None:
        self._channels = channels
        self.barrier: Barrier | None = None
        self._passed: dict[int, set[Channel]] = {}
        self._blocked: dict[int, list[tuple[Any, ...]]] = {}
        self._early: list[int] = []
        self.snapshots: dict[int, StageSnapshot] = {}

    @property
    def in_progress(self) -> bool:
        """Whether the barrier came over some channel of a stage that has no snapshot yet."""
        return bool(self._passed)

    def begin(self, barrier: Barrier) -> list[int]:
        """A checkpoint begins at this worker; gives the stages that had every barrier before."""
        self.barrier = barrier
        self.snapshots = {}
        early, self._early = self._early, []
        return early

    def blocks(self, stage: int, channel: Channel, message: tuple[Any, ...]) -> bool:
        """Whether a message has to wait; it is kept if so."""
        passed = self._passed.get(stage)
        if passed is None or channel not in passed:
            return False
        self._blocked.setdefault(stage, []).append(message)
        return True

    def on_barrier(self, stage: int, channel: Channel, barrier: Barrier) -> bool:
        """The barrier came over a channel; whether the stage has it from everywhere, and may take its snapshot.

        A peer's barrier may be here before the word of the driver that the checkpoint before is complete. Until that
        is here, and with it the beginning of this one, no snapshot is taken.
        """
        passed = self._passed.setdefault(stage, set())
        passed.add(channel)
        if len(passed) < self._channels[stage]:
            return False
        if self.barrier is None or self.barrier.epoch < barrier.epoch:
            self._early.append(stage)
            return False
        return True

    def on_snapshot(self, stage: int, snapshot: StageSnapshot) -> Iterator[tuple[Any, ...]]:
        """A stage's snapshot is taken; gives what waited, in order of arrival."""
        self.snapshots[stage] = snapshot
        self._passed.pop(stage, None)
        yield from self._blocked.pop(stage, ())
