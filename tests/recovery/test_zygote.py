"""The process that workers are forked from: begun early, of no consequence, gone with its driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import patience

SAGE = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run"]
SECONDS = patience(30.0)

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked for in /proc")


def children_of(process: int) -> list[int]:
    """The processes that a process has begun."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == process:
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def job_of(folder: Path, text: str) -> str:
    path = folder / "job.py"
    path.write_text(text)
    return str(path)


WAITS = "import time; time.sleep(60)"


def test_a_driver_that_is_killed_before_there_are_workers_leaves_no_process(tmp_path: Path) -> None:
    driver = subprocess.Popen([*SAGE, job_of(tmp_path, WAITS), "--workers=2"])
    until(lambda: bool(children_of(driver.pid)))
    (zygote,) = children_of(driver.pid)

    driver.kill()
    driver.wait()

    until(lambda: not os.path.exists(f"/proc/{zygote}"))


def test_ctrl_c_while_the_zygote_begins_is_told_by_the_driver_only(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [*SAGE, job_of(tmp_path, WAITS), "--workers=2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell begins in the background is to ignore it, and so is all that this begins.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until(lambda: bool(children_of(driver.pid)))

    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it: every process of the group hears of it
    _, err = driver.communicate(timeout=SECONDS)

    assert driver.returncode == 130
    assert err == "interrupted\n"


CHILDREN = """
import apache_beam as beam
from tests.recovery.test_zygote import children_of
import os

with beam.Pipeline() as p:
    p | beam.Create([os.getpid()]) | beam.Map(lambda driver: print("children:", len(children_of(driver))))
"""


@pytest.mark.parametrize(("workers", "count"), [(1, 0), (2, 1)])
def test_a_job_of_one_worker_begins_no_process(tmp_path: Path, workers: int, count: int) -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [*SAGE, job_of(tmp_path, CHILDREN), f"--workers={workers}"],
        capture_output=True, text=True, timeout=SECONDS, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert ran.stdout == f"children: {count}\n", ran.stderr


ENVIRONMENT = """
import os
import apache_beam as beam

os.environ["SET_BY_THE_SCRIPT"] = "1"

with beam.Pipeline() as p:
    p | beam.Create([None]) | beam.Map(lambda _: print(os.environ.get("SET_BY_THE_SCRIPT")))
"""


def test_workers_have_what_the_script_set_in_its_environment(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*SAGE, job_of(tmp_path, ENVIRONMENT), "--workers=2"], capture_output=True, text=True, timeout=SECONDS
    )
    assert ran.stdout == "1\n", ran.stderr
