"""Bugs that are planted, to see that the simulator finds them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sage.runners.engine.checkpoint.snapshot import RootState
from sage.runners.engine.operators.keyed.stateful import StatefulRoot
from sage.runners.engine.runtime import build
from sage.runners.simulation.simulator import length, simulate, uninterrupted
from sage.sources import SplitReader
from tests.simulation.parts import EventReader, Events, FileSink
from tests.simulation.pipelines import PIPELINES, scenario

ENOUGH = 200


class CommitsBeforeItFlushed(FileSink):
    """Says that a file is safe when it has only been written."""

    def flush(self, path: str) -> None:
        """Nothing is synced."""


class CommitsAtOnce(FileSink):
    """Makes its files visible before the checkpoint is durable."""

    def prepare(self, epoch: int) -> str | None:
        path = super().prepare(epoch)
        if path is not None:
            self.commit(path)
        return path


class ForgetsTimers(StatefulRoot):
    """Takes back the state of each key, and not its timers."""

    def restore(self, state: RootState) -> None:
        super().restore(state)
        self._state.event_timers.drop_all()


class _ReadsAhead(EventReader):
    def position(self) -> int:
        return min(self.at + 1, self.source.count) if self.at else 0


class PositionAheadOfState(Events):
    """Says that it is where it will be after the next poll, as a reader that fetches ahead might."""

    def reader(self, split: int, position: Any) -> SplitReader[tuple[str, int]]:
        return _ReadsAhead(self, split, position or 0)


class _Forgetful(EventReader):
    def position(self) -> int:
        return max(self.at - 1, 0)


class PositionBehindState(Events):
    """Says that it is where it was before the last poll."""

    def reader(self, split: int, position: Any) -> SplitReader[tuple[str, int]]:
        return _Forgetful(self, split, position or 0)


@dataclass(frozen=True)
class Bug:
    """One of them.

    Attributes:
        what: in words.
        pipeline: the job that has it.
        source: what the job reads.
        sink: what it writes to.
        root: what runs its stateful steps.
    """

    what: str
    pipeline: str = "count"
    source: Events = field(default_factory=Events)
    sink: FileSink = field(default_factory=FileSink)
    root: type[StatefulRoot] = StatefulRoot

    def found_at(self) -> int | None:
        """The first seed whose run shows that something is wrong; None if none of `ENOUGH` does."""
        right = scenario(PIPELINES[self.pipeline])
        expected, horizon = uninterrupted(right), length(right)
        job = scenario(PIPELINES[self.pipeline], self.source, self.sink)
        with self._in_place():
            for seed in range(ENOUGH):
                outcome = simulate(job, seed, horizon)
                if outcome.error is not None or outcome.output != expected.output:
                    return seed
        return None

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        build.StatefulRoot = self.root
        try:
            yield
        finally:
            build.StatefulRoot = StatefulRoot


PLANTED = (
    Bug("a sink commits before it flushed", sink=CommitsBeforeItFlushed()),
    Bug("a sink commits before the checkpoint is durable", sink=CommitsAtOnce()),
    Bug("timers are lost on restore", "state", root=ForgetsTimers),
    Bug("a source's position is ahead of the state", source=PositionAheadOfState()),
    Bug("a source's position is behind the state", source=PositionBehindState()),
)
