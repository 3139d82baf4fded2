"""What user code on Flink prints, logs and warns of comes out at the driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import patience

pytestmark = pytest.mark.flink

JOB = """
import logging, sys, warnings
import apache_beam as beam

class Says(beam.DoFn):
    def process(self, n):
        print("printed", n)
        print("to stderr", n, file=sys.stderr)
        logging.getLogger("mine").warning("logged %d", n)
        logging.getLogger("mine").info("not asked for")
        warnings.warn(f"warned of {n}")
        if n == FAILS:
            raise ValueError("no")
        yield n
    def finish_bundle(self):
        print("bundle ends", end="")
    def teardown(self):
        print("torn down")

with beam.Pipeline() as p:
    p | beam.Create([1, 2, 3]) | beam.ParDo(Says()) | beam.combiners.Count.Globally() | beam.Map(print)
"""
RUN = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run"]


def run(folder: Path, workers: int, fails: str) -> subprocess.CompletedProcess[str]:
    job = folder / "job.py"
    job.write_text(JOB.replace("FAILS", fails))
    command = [*RUN, str(job), "--runner=flink", f"--workers={workers}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=patience(90))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_functions_say_comes_out(tmp_path: Path, workers: int) -> None:
    ran = run(tmp_path, workers, "0")

    assert ran.returncode == 0, ran.stderr
    for n in (1, 2, 3):
        assert ran.stdout.count(f"printed {n}\n") == 1
        assert ran.stderr.count(f"to stderr {n}\n") == 1
        assert ran.stderr.count(f"logged {n}\n") == 1
        assert ran.stderr.count(f"warned of {n}\n") == 1
    assert "3\n" in ran.stdout
    assert "bundle ends" in ran.stdout
    assert "torn down" in ran.stdout
    assert "not asked for" not in ran.stderr


def test_what_was_said_before_a_failure_comes_out(tmp_path: Path) -> None:
    ran = run(tmp_path, 1, "2")

    assert ran.returncode == 1
    assert "printed 2\n" in ran.stdout
    assert "ValueError: no" in ran.stderr
