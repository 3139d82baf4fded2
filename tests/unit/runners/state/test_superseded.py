"""Checkpoints that a job has gone back behind: they can be gone on from until it has made one since."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.runners.engine.checkpoint.protocol import Kind
from sage.runners.state.manifests import Manifest
from sage.runners.state.snapshots import CheckpointStore


@pytest.fixture
def driver(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(str(tmp_path), "job")
    store.new_run()
    return store


def take(store: CheckpointStore, epoch: int, name: str = "") -> Manifest:
    kind = Kind.SAVEPOINT if name else Kind.PERIODIC
    return store.publish(epoch, {0: store.write(epoch, 0, {})}, {}, kind, name)


def again(tmp_path: Path, begin: Manifest | None, job: str = "job") -> CheckpointStore:
    store = CheckpointStore(str(tmp_path), job)
    store.choose(begin and begin.url)
    store.new_run()
    return store


def epochs(tmp_path: Path, job: str = "job") -> list[str]:
    return sorted(path.parent.name[-1] for path in (tmp_path / job).glob("chk-*/MANIFEST.json"))


def test_they_go_with_the_first_that_is_made_since(tmp_path: Path, driver: CheckpointStore) -> None:
    taken = [take(driver, epoch) for epoch in (1, 2, 3, 4)]
    store = again(tmp_path, taken[1])
    store.retain(3)
    assert epochs(tmp_path) == ["2", "3", "4"]
    take(store, 5)
    store.retain(3)
    assert epochs(tmp_path) == ["2", "5"]
    take(store, 6)
    store.retain(3)
    assert epochs(tmp_path) == ["2", "5", "6"]


def test_those_of_a_run_that_fell_before_can_be_gone_on_from(tmp_path: Path, driver: CheckpointStore) -> None:
    taken = [take(driver, epoch) for epoch in (1, 2, 3)]
    again(tmp_path, taken[0]).retain(3)
    store = again(tmp_path, None)
    take(store, 4)
    store.retain(9)
    assert epochs(tmp_path) == ["1", "2", "3", "4"]


def test_of_a_job_that_begins_from_anothers_savepoint_all_are(tmp_path: Path, driver: CheckpointStore) -> None:
    savepoint = take(driver, 7, "kept")
    other = CheckpointStore(str(tmp_path), "other")
    other.new_run()
    take(other, 1)
    store = again(tmp_path, savepoint, "other")
    take(store, 8)
    store.retain(9)
    assert epochs(tmp_path, "other") == ["8"]
