"""Nothing lost and nothing twice, wherever it crashes; and a bug that is planted is found."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from sage.runners.engine import build
from sage.runners.engine.checkpoint.snapshot import RootState
from sage.runners.engine.keyed.stateful import StatefulRoot
from sage.runners.simulation.simulator import Outcome, Scenario, length, simulate, uninterrupted
from sage.sources import SplitReader
from tests.simulation.parts import EventReader, Events, FileSink
from tests.simulation.pipelines import PIPELINES, scenario

SEEDS = int(os.environ.get("SAGE_SIMULATION_SEEDS", "60"))
ENOUGH = 200


@functools.cache
def prepared(name: str) -> tuple[Scenario, Outcome, int]:
    """A pipeline, what it puts out when nothing goes wrong, and how long a run of it is."""
    job = scenario(PIPELINES[name])
    return job, uninterrupted(job), length(job)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_oracle_puts_something_out(name: str) -> None:
    _, expected, _ = prepared(name)
    assert expected.error is None
    assert sum(expected.output.values()) >= 30
    assert len(expected.output) == sum(expected.output.values())


@pytest.mark.parametrize("name", PIPELINES)
def test_no_crash_shows_in_the_output(name: str) -> None:
    job, expected, horizon = prepared(name)
    for seed in range(SEEDS):
        outcome = simulate(job, seed, horizon)
        assert outcome.error is None, f"seed {seed}"
        assert outcome.output == expected.output, f"seed {seed}: {[fate.name for fate in outcome.fates]}"


def test_crashes_come_in_every_kind_and_everywhere() -> None:
    job, _, horizon = prepared("state")
    wanted = {"write", "sync", "rename", "link", "send", "produce", "commit", "POWER", "KILLED", "WORKER"}
    for seed in range(ENOUGH):
        outcome = simulate(job, seed, horizon)
        wanted -= {fate.name for fate in outcome.fates}
        wanted -= {outcome.log[at - 1].split()[0] for at, event in enumerate(outcome.log) if event == "crash "}
        if not wanted:
            return
    assert wanted == set()


@pytest.mark.parametrize("name", PIPELINES)
def test_the_same_seed_is_the_same_run(name: str) -> None:
    job, _, horizon = prepared(name)
    for seed in (3, 4, 5):
        first, second = simulate(job, seed, horizon), simulate(job, seed, horizon)
        assert first.fates == second.fates
        assert first.log == second.log


@pytest.mark.parametrize("path", ["general", "bound"])
def test_every_way_of_running_steps_recovers(path: str) -> None:
    _, expected, horizon = prepared("state")
    other = scenario(PIPELINES["state"], execution_path=path)
    for seed in range(1000, 1010):
        outcome = simulate(other, seed, horizon)
        assert (outcome.error, outcome.output) == (None, expected.output), f"seed {seed}"


def test_state_on_disk_recovers(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    _, expected, horizon = prepared("state")
    job = scenario(PIPELINES["state"], state_backend="rocksdb", scratch=str(tmp_path))
    for seed in range(2000, 2012):
        outcome = simulate(job, seed, horizon)
        assert (outcome.error, outcome.output) == (None, expected.output), f"seed {seed}"
    assert simulate(job, 2000, horizon).log == simulate(job, 2000, horizon).log


# Bugs, planted.


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


class ReadsAhead(EventReader):
    """Says that it is where it will be after the next poll, as a reader that fetches ahead might."""

    def position(self) -> int:
        return min(self.at + 1, self.source.count) if self.at else 0


class Hasty(Events):
    def reader(self, split: int, position: Any) -> SplitReader[tuple[str, int]]:
        return ReadsAhead(self, split, position or 0)


class Forgetful(EventReader):
    """Says that it is where it was before the last poll."""

    def position(self) -> int:
        return max(self.at - 1, 0)


class Late(Events):
    def reader(self, split: int, position: Any) -> SplitReader[tuple[str, int]]:
        return Forgetful(self, split, position or 0)


def first_violation(job: Scenario, expected: Outcome, horizon: int) -> int | None:
    """The first seed whose run shows that something is wrong; None if no seed does."""
    for seed in range(ENOUGH):
        outcome = simulate(job, seed, horizon)
        if outcome.error is not None or outcome.output != expected.output:
            return seed
    return None


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (Events(), CommitsBeforeItFlushed()),
        (Events(), CommitsAtOnce()),
        (Hasty(), FileSink()),
        (Late(), FileSink()),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_bug_in_a_sink_or_source_is_found(source: Events, sink: FileSink) -> None:
    _, expected, horizon = prepared("count")
    assert first_violation(scenario(PIPELINES["count"], source, sink), expected, horizon) is not None


def test_a_timer_that_is_lost_on_restore_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    job, expected, horizon = prepared("state")
    monkeypatch.setattr(build, "StatefulRoot", ForgetsTimers)
    assert first_violation(job, expected, horizon) is not None
