"""The folder of a job's keyed state is there while the job runs, and no longer than there is somebody to remove it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sage.errors import ConfigError
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.worker.local_storage import keyed_stores
from tests.patience import patience


def options(folder: Path) -> JobOptions:
    return JobOptions(state_backend="rocksdb", state_dir=str(folder))


def test_state_in_memory_has_no_store() -> None:
    with keyed_stores(JobOptions()) as stores:
        assert stores is None


def test_files_are_gone_with_the_job(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    with keyed_stores(options(tmp_path / "state")) as stores:
        assert stores is not None
        stores("step").put(b"a", b"1")
        assert stores("other").get(b"a") is None
        assert list((tmp_path / "state").iterdir())
    assert not list((tmp_path / "state").iterdir())


def test_what_a_killed_job_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    code = (
        "import os, signal, sys\n"
        "from sage.runners.state.scratch import state_folder\n"
        "with state_folder(sys.argv[1]) as folder:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=patience(60))
    (orphan,) = tmp_path.iterdir()
    (tmp_path / "sage-state-of-somebody").mkdir()
    with keyed_stores(options(tmp_path)), keyed_stores(options(tmp_path)):
        assert not orphan.exists()
        assert len(list(tmp_path.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["sage-state-of-somebody"]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_option(tmp_path: Path) -> None:
    pytest.importorskip("rocksdict")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="--state_dir: keyed state cannot be kept in"), keyed_stores(
        options(tmp_path / "file")
    ):
        pass
