"""A stage takes its snapshot when the barrier has come over every channel, and not before the driver has said so."""

from __future__ import annotations

import pytest

from sage.runners.engine.checkpoint.alignment import Alignment
from sage.runners.engine.checkpoint.snapshot import Barrier, RootSnapshot, StageSnapshot

FIRST, SECOND = Barrier(1), Barrier(2)
NOTHING = StageSnapshot(0, RootSnapshot())


@pytest.fixture
def alignment() -> Alignment:
    """Stage 3 has two channels."""
    return Alignment({3: 2})


def test_the_last_channel_completes_it(alignment: Alignment) -> None:
    alignment.begin(FIRST)
    assert not alignment.on_barrier(3, (0, 0), FIRST)
    assert alignment.on_barrier(3, (0, 1), FIRST)


def test_what_comes_behind_the_barrier_waits_for_the_snapshot_and_nothing_else_does(alignment: Alignment) -> None:
    alignment.begin(FIRST)
    alignment.on_barrier(3, (0, 0), FIRST)
    assert alignment.blocks(3, (0, 0), ("behind",))
    assert not alignment.blocks(3, (0, 1), ("before",))
    assert not alignment.blocks(4, (0, 0), ("of another stage",))
    alignment.on_barrier(3, (0, 1), FIRST)
    assert list(alignment.on_snapshot(3, NOTHING)) == [("behind",)]
    assert not alignment.blocks(3, (0, 0), ("of the next epoch",))
    assert alignment.snapshots == {3: NOTHING}


def test_a_peer_that_is_ahead_does_not_hasten_the_snapshot(alignment: Alignment) -> None:
    """Its barrier may overtake the driver's word that the checkpoint before is durable."""
    alignment.begin(FIRST)
    assert not alignment.on_barrier(3, (0, 0), SECOND)
    assert not alignment.on_barrier(3, (0, 1), SECOND)
    assert alignment.blocks(3, (0, 1), ("behind",))
    assert alignment.begin(SECOND) == [3]
    assert alignment.begin(Barrier(3)) == []


def test_it_is_at_hand_from_the_first_barrier_to_the_snapshot(alignment: Alignment) -> None:
    alignment.begin(FIRST)
    assert not alignment.in_progress
    alignment.on_barrier(3, (0, 0), FIRST)
    assert alignment.in_progress
    alignment.on_barrier(3, (0, 1), FIRST)
    list(alignment.on_snapshot(3, NOTHING))
    assert not alignment.in_progress
