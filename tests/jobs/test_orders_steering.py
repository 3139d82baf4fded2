"""The orders job without an end, under `sage run`: watched and steered from outside, as a person does it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sage.jobs.orders.events import SPLITS
from tests.patience import patience

SAGE = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())"]


@pytest.fixture
def sage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command; jobs of other tests are not seen."""
    runtime = tmp_path / "runtime"  # not the folder the command runs in, where its folder `sage` would be imported
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*SAGE, *arguments], capture_output=True, text=True, timeout=patience(60), cwd=tmp_path)

    return run


@contextmanager
def orders(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [*SAGE, "run", "sage.jobs.orders", "--json", "--checkpoint-interval", "100ms", "--"]
    flags = ["--rate", "2000", "--output", str(folder / "out")]
    job = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        yield job
    finally:
        job.kill()
        job.wait()


def ended(job: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """What the run printed when it had ended well."""
    out, told = job.communicate(timeout=patience(60))
    assert job.returncode == 0, told
    return json.loads(out), told


def vitals(sage: Callable[..., Any], job: subprocess.Popen[str]) -> dict[str, Any]:
    """What the job tells of itself, once it has taken a checkpoint."""
    deadline = time.monotonic() + patience(60)
    while time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[1]
        listed = json.loads(sage("jobs", "--json").stdout)
        if listed and listed[0]["vitals"]["checkpoint"]:
            found: dict[str, Any] = listed[0]
            return found
    raise AssertionError("the job took no checkpoint within a minute")


def settled(folder: Path) -> list[int]:
    """The numbers of orders that are settled; not of those that were only paid for: payments may be read further."""
    parts = sorted((folder / "out" / "settlements").glob("*.jsonl"))
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    return [int(row["order_id"][1:]) for row in rows if row["status"] != "unmatched"]


def test_savepoint_stop_go_on_and_drain(sage: Callable[..., Any], tmp_path: Path) -> None:
    with orders(tmp_path) as job:
        told = vitals(sage, job)
        assert re.search(r"^orders  running  process \d+  reads [\d.]+( k)?/s · ", sage("jobs").stdout)
        assert (told["name"], told["state"]) == ("orders", "RUNNING")
        assert told["vitals"]["read"] > 0
        taken = sage("savepoint", "orders", "--name", "one")
        assert taken.returncode == 0, taken.stderr
        again = sage("savepoint", "orders", "--name", "one")
        assert (again.returncode, "there is a savepoint 'one'" in again.stderr) == (1, True)
        stopped = sage("stop", "--savepoint", "two")
        assert "stopped with its state in" in stopped.stdout
        assert ended(job)[0]["state"] == "DONE"
    path = tmp_path / "out" / "checkpoints" / "orders" / "savepoints" / "two"
    assert "savepoint one" in sage("checkpoints", "list", str(tmp_path / "out" / "checkpoints")).stdout
    assert "Accounts" in sage("checkpoints", "inspect", str(path)).stdout
    fits = sage("checkpoints", "check", str(path), "sage.jobs.orders")
    assert (fits.returncode, "can go on from" in fits.stdout) == (0, True)
    before = len(settled(tmp_path))

    with orders(tmp_path) as job:
        vitals(sage, job)
        assert sage("drain").returncode == 0
        ended(job)
    found = settled(tmp_path)
    assert len(found) > before
    for split in range(SPLITS):  # each was read up to a place of its own when the drain began
        mine = sorted(number for number in found if number % SPLITS == split)
        assert mine == list(range(split, mine[-1] + 1, SPLITS)), "every order up to the last is settled"


def test_a_checkpoint_that_does_not_fit_names_the_step(sage: Callable[..., Any], tmp_path: Path) -> None:
    with orders(tmp_path) as job:
        vitals(sage, job)
        sage("stop", "--savepoint", "mine")
        ended(job)
    other = tmp_path / "other.py"
    other.write_text(
        "import apache_beam as beam\n"
        "with beam.Pipeline() as p:\n"
        "    p | beam.Create([1]) | beam.Map(print)\n"
    )
    path = tmp_path / "out" / "checkpoints" / "orders" / "savepoints" / "mine"
    refused = sage("checkpoints", "check", str(path), str(other))
    assert refused.returncode == 1
    assert "step 'Settle' is gone" in refused.stdout
    assert "cannot go on" in refused.stdout


def test_ctrl_c_once_keeps_the_state_and_twice_ends_at_once(sage: Callable[..., Any], tmp_path: Path) -> None:
    with orders(tmp_path) as job:
        vitals(sage, job)
        os.kill(job.pid, signal.SIGINT)
        said, told = ended(job)
        assert said["state"] == "DONE"
        assert "the same command goes on from there" in told
    with orders(tmp_path) as job:
        vitals(sage, job)
        os.kill(job.pid, signal.SIGINT)
        os.kill(job.pid, signal.SIGINT)
        job.communicate(timeout=patience(60))
        # The first may have been obeyed before the second came.
        assert job.returncode in (0, 130)


def test_without_a_job_there_is_nothing_to_steer(sage: Callable[..., Any], tmp_path: Path) -> None:
    assert sage("jobs").stdout == "no job runs\n"
    for verb in (["stop"], ["drain"], ["savepoint", "--name", "x"]):
        refused = sage(*verb)
        assert (refused.returncode, "no job runs on this machine" in refused.stderr) == (2, True)
    (tmp_path / "runtime" / "sage").chmod(0o777)
    refused = sage("stop")
    assert (refused.returncode, "with mode 700" in refused.stderr) == (2, True)


def test_a_path_without_checkpoints(sage: Callable[..., Any], tmp_path: Path) -> None:
    assert "no checkpoint that is durable" in sage("checkpoints", "list", str(tmp_path)).stdout
    refused = sage("checkpoints", "inspect", str(tmp_path / "nothing"))
    assert (refused.returncode, "there is no checkpoint" in refused.stderr) == (1, True)
