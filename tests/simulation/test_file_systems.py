"""What is made on a disk outlives a loss of power, also below folders that a crash has left."""

from __future__ import annotations

import pytest

from sage.runners.simulation.fault_schedule import FaultSchedule
from sage.runners.simulation.world import World
from sage.runners.state.objects import LocalObjectStore
from sage.transforms.io.storage import Folder
from tests.simulation.file_systems import DISK, in_place


@pytest.fixture(params=range(8))
def world(request: pytest.FixtureRequest) -> World:
    """Somebody has made folders, and crashed."""
    found = World(FaultSchedule(request.param, crashes=0))
    for folder in ("/written", "/written/parts"):
        found.disk.make(folder)
    return found


def test_files_of_sinks(world: World) -> None:
    with in_place(), world.entered():
        folder = Folder(f"{DISK}:///written/parts")
        file = folder.create("a.tmp")
        file.write(b"kept")
        folder.seal("a.tmp", file)
        folder.publish([("a.tmp", "a")])
    world.disk.lose_power()
    assert world.disk.read("/written/parts/a") == b"kept"


def test_checkpoints(world: World) -> None:
    LocalObjectStore("/written/parts/job", world.disk).put("chk/MANIFEST.json", b"kept")
    world.disk.lose_power()
    assert LocalObjectStore("/written/parts/job", world.disk).get("chk/MANIFEST.json") == b"kept"
