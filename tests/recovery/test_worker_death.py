"""Workers that are killed, jobs that are interrupted: a prompt end, one line, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import Fault, WorkerLost
from sage.runners.local import LocalRunner
from tests.patience import patience

PROMPT_SECONDS = patience(10.0)


def kill_itself(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_worker_that_is_killed_ends_the_job_soon_and_says_what_to_do(workers: int) -> None:
    def run() -> None:
        with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--workers={workers}"])) as p:
            p | beam.Create(range(100)) | beam.Reshuffle() | beam.Map(kill_itself)

    started = time.monotonic()
    with pytest.raises(WorkerLost, match=r"worker \d \(process \d+\) ended without a report.*run it again") as caught:
        run()
    assert time.monotonic() - started < PROMPT_SECONDS
    assert caught.value.retryable
    assert caught.value.fault is Fault.ENVIRONMENT


def test_a_job_runs_after_one_whose_worker_died() -> None:
    options = PipelineOptions(["--workers=2"])
    with pytest.raises(WorkerLost), beam.Pipeline(runner=LocalRunner(), options=options) as p:
        p | beam.Create([1]) | beam.Map(kill_itself)
    with beam.Pipeline(runner=LocalRunner(), options=options) as p:
        p | beam.Create([1]) | beam.Map(str)


JOB = """
import os, sys, time
import apache_beam as beam

def wait(n):
    with open(os.path.join({folder!r}, str(os.getpid())), "w"):
        pass
    time.sleep(120)

with beam.Pipeline() as p:
    p | beam.Create(range(100)) | beam.Reshuffle() | "Wait" >> beam.Map(wait)
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A job whose steps wait, and the folder where each process that runs one leaves its number."""
    folder = tmp_path / "pids"
    folder.mkdir()
    job = tmp_path / "job.py"
    job.write_text(JOB.format(folder=str(folder)))
    yield job, folder
    for pid in _alive(folder):
        os.kill(pid, signal.SIGKILL)


def _alive(folder: Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir() if os.path.exists(f"/proc/{entry.name}")]


def _until(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + patience(seconds)
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked for in /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_with_130_one_line_and_no_process_left(waiting: tuple[Path, Path], workers: int) -> None:
    job, folder = waiting
    command = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run", str(job)]
    running = subprocess.Popen(
        [*command, f"--workers={workers}", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    _until(lambda: any(folder.iterdir()))

    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it: every process of the group hears of it
    out, err = running.communicate(timeout=patience(30))

    assert running.returncode == 130
    assert json.loads(out)["state"] == "CANCELLED"
    assert err.startswith("interrupted")
    assert err.count("\n") == 1
    _until(lambda: not _alive(folder))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked for in /proc")
def test_a_driver_that_is_killed_leaves_no_worker(waiting: tuple[Path, Path]) -> None:
    job, folder = waiting
    command = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run", str(job)]
    running = subprocess.Popen([*command, "--workers=2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _until(lambda: any(folder.iterdir()))

    running.kill()
    running.wait()

    _until(lambda: not _alive(folder))


STREAM = """
import os, subprocess, sys
import apache_beam as beam
from sage.sources import ReadStream
from tests.recovery.streams import Numbers

def wait_for_ever(pair):
    if pair[1] == 0:  # a program that a step has started can be ended with the signal that workers do not heed
        sleeper = subprocess.Popen(["sleep", "60"])
        sleeper.terminate()
        assert sleeper.wait(10) < 0
        with open(os.path.join({folder!r}, str(os.getpid())), "w"):
            pass
    return pair

with beam.Pipeline() as p:
    p | ReadStream(Numbers(10_000_000, 1_000)) | beam.Map(wait_for_ever)
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked for in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kept", [True, False])
def test_a_stream_is_stopped_by_one_signal_to_its_group(
    waiting: tuple[Path, Path], tmp_path: Path, number: int, kept: bool
) -> None:
    job, folder = waiting
    job.write_text(STREAM.format(folder=str(folder)))
    command = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run", str(job)]
    checkpoints = tmp_path / "kept"
    running = subprocess.Popen(
        [*command, "--workers=2", "--json", *([f"--checkpoint-dir={checkpoints}"] if kept else [])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _until(lambda: any(folder.iterdir()))

    os.killpg(running.pid, number)
    out, err = running.communicate(timeout=patience(30))

    (ended,) = json.loads(out)["jobs"]
    if kept:
        assert running.returncode == 0, err
        assert ended["stopped_at"] == str(next(checkpoints.glob("*/chk-*")))
        assert err.splitlines()[-1].startswith("stopped job; its state is in")
    else:
        assert running.returncode == 130
        assert (ended["state"], ended["stopped_at"]) == ("CANCELLED", None)
        assert err.splitlines() == ["interrupted: stopped job"]
    _until(lambda: not _alive(folder))
