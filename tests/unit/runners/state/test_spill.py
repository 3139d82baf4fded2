"""Files of spilled values: nothing has a name, nothing stays, and what goes wrong is said."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

import pytest

from sage.runners.state import spill
from sage.runners.state.spill import FileSpillStore, SpillError


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_pieces_are_read_by_their_place_in_any_order(tmp_path: Path) -> None:
    area = FileSpillStore(str(tmp_path)).area()
    places = [area.append(bytes([n]) * n) for n in range(100)]
    assert places == [n * (n - 1) // 2 for n in range(100)]
    for n in (99, 0, 50, 1):
        assert area.read(places[n], n) == bytes([n]) * n
    assert area.read(area.append(b"last"), 4) == b"last"


def test_the_files_have_no_name_so_a_killed_process_leaves_none(tmp_path: Path) -> None:
    store = FileSpillStore(str(tmp_path))
    store.area().append(b"x" * 1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_an_area_goes_when_nobody_refers_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "AREA_BYTES", 10)
    store = FileSpillStore(str(tmp_path))
    before = open_files()
    areas = [store.area() for _ in range(5) if store.area().append(b"0123456789") or True]
    assert len(set(map(id, areas))) == 5
    del areas
    gc.collect()
    assert open_files() <= before + 1


def test_after_the_job_the_values_are_gone_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    store = FileSpillStore(str(tmp_path))
    area = store.area()
    place = area.append(b"abc")
    store.close()
    with pytest.raises(SpillError, match=r"list\(values\)"):
        area.read(place, 3)


def test_a_folder_is_made_and_one_that_cannot_be_is_named(tmp_path: Path) -> None:
    FileSpillStore(str(tmp_path / "deep" / "er")).area().append(b"x")
    (tmp_path / "file").write_text("")
    with pytest.raises(SpillError, match=r"/file/under.*--spill_dir"):
        FileSpillStore(str(tmp_path / "file" / "under")).area()


def test_a_disk_that_takes_no_more_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    area = FileSpillStore(str(tmp_path)).area()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        area.append(b"x" * 1000)
        with pytest.raises(SpillError, match=r"cannot spill to .*--spill_dir") as caught:
            area.append(b"x")
        assert caught.value.retryable
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_missing_piece_is_an_error(tmp_path: Path) -> None:
    area = FileSpillStore(str(tmp_path)).area()
    with pytest.raises(SpillError, match="missing"):
        area.read(0, 5)
