"""Nothing lost and nothing twice, wherever it crashes; and a bug that is planted is found."""

from __future__ import annotations

import functools
import os
import types
from pathlib import Path

import pytest

from sage.runners.simulation.simulator import Outcome, Scenario, length, simulate, uninterrupted
from sage.transforms.io.storage import Folder
from tests.simulation import file_systems, kafka
from tests.simulation.pipelines import MORE, PIPELINES, scenario
from tests.simulation.planted import ENOUGH, PLANTED, Bug

SEEDS = int(os.environ.get("SAGE_SIMULATION_SEEDS", "60"))


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


@pytest.mark.parametrize(("name", "outside", "rows"), [("files", file_systems, 30), ("kafka", kafka, 15)])
def test_sinks_that_users_have_recover(name: str, outside: types.ModuleType, rows: int) -> None:
    job = scenario(MORE[name])
    with outside.in_place():
        expected, horizon = uninterrupted(job), length(job)
        assert len(expected.output) == rows
        for seed in (*range(3000, 3016), 4946, 7566, 9896):
            outcome = simulate(job, seed, horizon)
            assert (outcome.error, outcome.output) == (None, expected.output), f"seed {seed}"


def test_files_that_are_renamed_before_they_are_safe_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    job = scenario(MORE["files"])
    with file_systems.in_place():
        expected, horizon = uninterrupted(job), length(job)
        monkeypatch.setattr(Folder, "sync", lambda self, names: None)
        assert any(simulate(job, seed, horizon).output != expected.output for seed in range(ENOUGH))


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.what)
def test_a_bug_that_is_planted_is_found(bug: Bug) -> None:
    assert bug.found_at() is not None
