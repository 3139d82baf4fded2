"""What the file sinks make on a disk outlives a loss of power."""

from __future__ import annotations

import pytest

from sage.runners.simulation.dice import Dice
from sage.runners.simulation.world import World
from sage.transforms.io.storage import Folder
from tests.simulation.file_systems import DISK, in_place


@pytest.mark.parametrize("seed", range(8))
def test_a_folder_that_was_made_a_moment_before_a_crash_is_made_safe_by_who_finds_it(seed: int) -> None:
    world = World(Dice(seed, crashes=0))
    with in_place(), world.entered():
        world.disk.make("/written")
        world.disk.make("/written/parts")
        folder = Folder(f"{DISK}:///written/parts")
        file = folder.create("a.tmp")
        file.write(b"kept")
        folder.seal("a.tmp", file)
        folder.publish([("a.tmp", "a")])
        world.disk.lose_power()
    assert world.disk.read("/written/parts/a") == b"kept"
