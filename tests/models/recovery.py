"""Roots at several workers that are snapshotted, thrown away and restored: what comes out must not show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.blocks import MIN_MICROS, Block
from sage.runners.engine.core.key_groups import KEY_GROUPS, worker_of
from sage.runners.engine.core.keys import KeyIds
from sage.runners.engine.memory.manager import SpillStore
from tests.models.harness import Harness


class Workers:
    """One keyed root at each of some workers.

    State: the harness of each; for each worker of now and before the chain of its ``keyed`` chunks; what came out of
    workers that are gone.

    Args:
        make: a new worker, as ``lambda: Harness(...)``.
        ids: tells which worker a key belongs to.
        count: how many workers there are at first.
    """

    def __init__(self, make: Callable[[], Harness], ids: KeyIds, count: int = 1) -> None:
        self._make = make
        self._ids = ids
        self.running = [make() for _ in range(count)]
        self.watermark = MIN_MICROS
        self._clock = 0
        self._out: list[Any] = []
        self._chains: list[list[bytes]] = [[] for _ in self.running]
        self._last: list[RootSnapshot] = [RootSnapshot() for _ in self.running]

    def feed(self, block: Block, port: int = 0) -> None:
        """A block of keyed elements."""
        for me, harness in enumerate(self.running):
            mine = [row for row, (key, _) in enumerate(block.values) if self._worker(key) == me]
            if mine:
                harness.root.process_block(port, block.pick(mine))

    def _worker(self, key: Any) -> int:
        return worker_of(self._ids.group(key, KEY_GROUPS), len(self.running))

    def advance(self, watermark: int) -> None:
        """The watermark moves on to ``watermark`` (microseconds), if that is on."""
        if watermark > self.watermark:
            self.watermark = watermark
            for harness in self.running:
                harness.advance(watermark)

    def wake(self, now: int) -> None:
        """The clock moves on to ``now`` (microseconds)."""
        self._clock = max(self._clock, now)
        for harness in self.running:
            harness.wake(self._clock)

    def snapshot(self, whole: bool) -> None:
        """Every worker gives what it holds."""
        for me, harness in enumerate(self.running):
            found = harness.root.snapshot(whole)
            assert found.whole or not whole, "all was asked for"
            if found.whole:
                self._chains[me].clear()
            if found.keyed is not None:
                self._chains[me].append(found.keyed)
            self._last[me] = found

    def crash(self, count: int) -> None:
        """All workers are gone; ``count`` new ones go on from a snapshot that is taken before."""
        self.snapshot(not self._chains[0])
        self._out += self._kept()
        chains, lasts = self._chains, self._last
        spread = [item for last in lasts for item in last.spread]
        self.running = [self._make() for _ in range(count)]
        for me, harness in enumerate(self.running):
            harness.clock.micros = self._clock
            harness.root.watermark = self.watermark
            mine = None if count == len(chains) else _owner(me, count)
            given: Sequence[Sequence[bytes]] = chains if mine else [chains[me]]
            harness.root.restore(RootState(given, spread[me::count], lasts[0].shared, mine))
        if count != len(chains):
            self._chains = [[] for _ in self.running]
            self._last = [RootSnapshot() for _ in self.running]
            self.snapshot(True)

    def _kept(self) -> list[Any]:
        return [
            (value, stamp.micros, windows, pane)
            for harness in self.running
            for block in harness.kept.blocks
            for value, stamp, windows, pane in block.rows()
        ]

    def rows(self) -> list[Any]:
        """What came out, ever, as (value, timestamp, windows, pane)."""
        return self._out + self._kept()

    def stores(self) -> list[SpillStore]:
        """Where each worker puts what does not fit in memory."""
        return [harness.store for harness in self.running]


def _owner(me: int, count: int) -> Callable[[int], bool]:
    return lambda group: worker_of(group, count) == me
