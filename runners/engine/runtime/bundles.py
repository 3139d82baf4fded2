"""When a bundle of a stream ends, where something is done once for each: a commit, a call of a service."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.core import DoFn
from apache_beam.typehints.typecheck import AbstractDoFnWrapper

from sage.runners.engine.core import spec
from sage.runners.engine.core.adaptive_batch import SHARE, AdaptiveBatchSize
from sage.runners.engine.core.blocks import MIN_MICROS

FIRST_ROWS = 1_000
MOST_ROWS = 1 << 20
GROWTH = 16
TRIAL = 4
TRIAL_EVERY = 16
WORTH = 0.6  # a trial pays where an element costs this much of what it cost before, or less (ratio)
_LATEST = 0.25  # what the last end of a bundle weighs beside those before


def works_per_bundle(step: spec.Step) -> bool:
    """Whether a step has something to do when a bundle begins or ends."""
    if not isinstance(step, spec.ParDo):
        return False
    fn: Any = step.dofn.fn
    while isinstance(fn, AbstractDoFnWrapper):
        fn = fn.dofn
    return type(fn).start_bundle is not DoFn.start_bundle or type(fn).finish_bundle is not DoFn.finish_bundle


class BundleLimits:
    """Decides when the open bundle of a stage is to end.

    - It ends when it has been open for ``patience``, which is ``--max_bundle_time``.
    - Where nothing is left to do it ends sooner: when it has been open for nine times as long as its end will take,
      so that ends take a tenth of the time at most, but no longer than leaves the patience time for the end. With
      a patience of 50 ms a bundle that ends in 1 ms stays open for 9 ms, one that ends in 30 ms for 20 ms.
    - Where input is waiting, and a bundle has a fixed cost, it may be open for nine times as long as that.
    - Where input is waiting, and elements take longer than the patience, every sixteenth bundle is a trial with four
      times as many, and so is the next while it pays: a step that gathers elements for calls behind it, as
      `beam.BatchElements`, finds out in a long bundle what it gains.
    - It ends when it has as many elements as take ten times the patience, or make up for the fixed cost
      (`AdaptiveBatchSize`): an end whose cost is per element does not hold up a barrier for long.

    State: when the open bundle began (microseconds), its elements (count) and what they cost so far (microseconds);
    what bundles cost by their size, and the average cost of an end (microseconds); how many bundles were open for the
    patience because of their elements, what an element of the last cost (microseconds), and how many elements the next
    is to have on trial (count).

    Args:
        patience: how long an element may wait for others (microseconds).
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._size = AdaptiveBatchSize(MOST_ROWS, (SHARE + 1) * patience, FIRST_ROWS, GROWTH)
        self._began = MIN_MICROS
        self._rows = 0
        self._micros = 0
        self._end_micros = 0.0
        self._slow = 0
        self._per_row = 0.0
        self._trial = 0

    def begin(self, now: int) -> None:
        """Takes note that a bundle begins now (microseconds)."""
        self._began, self._rows, self._micros = now, 0, 0

    def add(self, rows: int, micros: int) -> None:
        """Takes note that so many elements came (count), and took so long (microseconds)."""
        self._rows += rows
        self._micros += micros

    def end(self, micros: int) -> None:
        """Takes note that the bundle has ended, and that its end took so long (microseconds)."""
        if self._rows:
            spent = self._micros + micros
            self._size.observe(self._rows, spent)
            self._plan_trial(spent / self._rows)
            self._end_micros += (micros - self._end_micros) * (_LATEST if self._end_micros else 1)

    def _plan_trial(self, per_row: float) -> None:
        """Decides whether the next bundle is a trial, by what the elements of the last cost (microseconds)."""
        if self._rows < self._trial:
            return  # a barrier cut it short, or there was no more: it is tried again
        paid, self._per_row = self._trial and per_row < WORTH * self._per_row, per_row
        slow = self._micros >= self._patience
        self._slow += slow
        self._trial = TRIAL * self._rows if paid or (slow and self._slow % TRIAL_EVERY == 1) else 0

    @property
    def room(self) -> int:
        """How many more elements the bundle should have (count)."""
        return max(1, max(self._size.size, self._trial) - self._rows)

    @property
    def idle_until(self) -> int:
        """When the bundle is to end if nothing more comes (microseconds)."""
        wait = min(SHARE * self._end_micros, self._patience - self._end_micros)
        return self._began + max(int(wait), 0)

    def due(self, now: int, behind: bool) -> bool:
        """Whether the bundle is to end though more may come.

        Args:
            now: the time (microseconds).
            behind: whether more is waiting already.
        """
        if behind and self._rows < self._trial:
            return False
        longest = max(self._patience, SHARE * self._size.fixed_micros) if behind else self._patience
        return self._rows >= self._size.size or now - self._began >= longest
