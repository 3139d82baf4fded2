"""Watermark alignment: sources that feed one grouping are read at about the same event time.

Where one topic is read faster than another, in event time, a join of the two must hold all that the faster one is
ahead. So a split that is further ahead than `--max_watermark_drift` is not read until the others have come after it.
Flink has this by the same name, for the sources that are put into a group; here those are a group whose elements meet
at a step with keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sage.errors import WorkerLost
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS
from sage.runners.engine.core.spec import Plan

ALIGNMENT_PORT = 0xFFFF_FFFF
"""Where workers send each other the least watermark of a group, as if it were an input of the group's first stage."""

IDLE_MICROS = 2_000_000
"""How long (microseconds of processing time) a split that has nothing to give keeps the others waiting."""

REPORT_MICROS = 20_000
"""How often (microseconds of processing time) other workers hear of small progress."""


class Member(Protocol):
    """A root that reads splits of a group.

    Attributes:
        alignment: the group, if it is in one.
    """

    alignment: WatermarkAlignment | None

    def least_watermark(self, limit: int) -> int:
        """Returns the least watermark (microseconds) of its splits that count in the group; `MAX_MICROS` if none does.

        Args:
            limit: the group's, as it was: those beyond it wait.
        """


class Peers(Protocol):
    """The other workers, as the engine's exchange reaches them."""

    me: int
    workers: int

    def send(self, worker: int, stage: int, port: int, message: int) -> None:
        """Sends a watermark (microseconds) to a port of a stage at another worker."""


class WatermarkAlignment:
    """One group at one worker: how far in event time its splits may be read.

    Why it never stands still: of the splits that count, the one with the least watermark is within the limit as soon as
    its worker knows the others' watermarks, for the limit is that watermark and more. A split does not count any more
    when it has ended, or when it had nothing to give for `IDLE_MICROS`: it has come as far as there is to read. One
    that waits for the limit counts, and is not the least. Each worker sends what the others do not know yet within
    `REPORT_MICROS`, also when all of its own splits wait. A watermark that is old is too low, so that a worker waits
    longer than it must, never for ever.

    State: what the other workers last said, which of it is still awaited, and what they were told.

    Args:
        drift: how far ahead of the group's least watermark a split is still read (microseconds of event time).
        others: the other workers; each says something at its beginning.
        send: sends a watermark to another worker.

    Attributes:
        limit: up to which watermark splits are read (microseconds), as of the last `update`.
    """

    def __init__(self, drift: int, others: Iterable[int] = (), send: Callable[[int, int], None] | None = None) -> None:
        self.limit = MAX_MICROS
        self.members: list[Member] = []
        self._drift = drift
        self._others = dict.fromkeys(others, MIN_MICROS)
        self._send = send
        self._silent = set(self._others)
        self._patient_until: int | None = None
        self._least = MIN_MICROS
        self._reported: int | None = None
        self._reported_at = MIN_MICROS

    def update(self, now: int) -> None:
        """Computes the limit anew, and tells the other workers what they should know (``now`` in microseconds)."""
        if self._patient_until is None:
            self._patient_until = now + IDLE_MICROS
        if self._silent and now >= self._patient_until:
            self._others.update(dict.fromkeys(self._silent, MAX_MICROS))
            self._silent.clear()
        self._least = min((member.least_watermark(self.limit) for member in self.members), default=MAX_MICROS)
        self._set_limit()
        if self._others and self._is_news(now):
            self._reported, self._reported_at = self._least, now
            for worker in self._others:
                assert self._send is not None
                self._send(worker, self._least)

    def _set_limit(self) -> None:
        least = min(self._least, *self._others.values()) if self._others else self._least
        self.limit = min(least + self._drift, MAX_MICROS)

    def _is_news(self, now: int) -> bool:
        if self._reported is None or self._least < self._reported:
            return True
        ahead = self._least - self._reported
        return ahead > self._drift // 2 or (ahead > 0 and now >= self._reported_at + REPORT_MICROS)

    def due(self) -> int | None:
        """Returns the processing time (microseconds) at which `update` must be called, whatever else there is to do."""
        if not self._others:
            return None
        if self._reported is None:
            return MIN_MICROS
        times = [self._reported_at + REPORT_MICROS] if self._least != self._reported else []
        if self._silent and self._patient_until is not None:
            times.append(self._patient_until)
        return min(times, default=None)

    def hear(self, worker: int, watermark: int) -> None:
        """Takes the least watermark (microseconds) of another worker's splits."""
        self._silent.discard(worker)
        self._others[worker] = watermark
        self._set_limit()


def groups(plan: Plan, reading: Sequence[int]) -> list[list[int]]:
    """Returns the stages that read, out of ``reading``, in groups of those whose elements meet at a step with keys."""
    found: list[set[int]] = []
    for stage in plan.stages:
        if stage.partition == "key" and (meet := plan.feeding([stage.index]).intersection(reading)):
            apart = [group for group in found if not group & meet]
            found = [*apart, meet.union(*(group for group in found if group & meet))]
    return [sorted(group) for group in found]


def align(
    plan: Plan, members: Mapping[int, Member], drift: int, exchange: Peers
) -> dict[int, WatermarkAlignment]:
    """Puts the stages that read into groups.

    Args:
        plan: the job.
        members: the roots of the stages that read splits here and may wait, by stage.
        drift: see `WatermarkAlignment`.
        exchange: the way to the other workers.

    Returns:
        Each group, by its first stage.
    """
    others = [worker for worker in range(exchange.workers) if worker != exchange.me]
    made = {}
    for stages in groups(plan, list(members)):
        group = WatermarkAlignment(drift, others, _sender(exchange, stages[0]))
        for stage in stages:
            members[stage].alignment = group
            group.members.append(members[stage])
        made[stages[0]] = group
    return made


def _sender(exchange: Peers, stage: int) -> Callable[[int, int], None]:
    def send(worker: int, watermark: int) -> None:
        with contextlib.suppress(WorkerLost):  # one that has ended waits for nobody
            exchange.send(worker, stage, ALIGNMENT_PORT, watermark)

    return send
