"""A pipeline in the body of a module: worker processes import the module, and must not start the job again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import patience

RUN = ["-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run"]

AT_IMPORT = """
import apache_beam as beam

class Doubled(beam.DoFn):
    def process(self, n):
        yield 2 * n

p = beam.Pipeline({runner})
p | beam.Create([1, 2, 3]) | "Double" >> beam.ParDo(Doubled()) | beam.Map(print)
p.run().wait_until_finish()
"""

SPAWNS = """
import multiprocessing
import os
import sys
import apache_beam as beam
from sage.runners.local import LocalRunner

def spawns(n):
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=os.getpid)
    child.start()
    child.join()
    return child.exitcode

with beam.Pipeline(runner=LocalRunner(), options=beam.options.pipeline_options.PipelineOptions(sys.argv[1:])) as p:
    p | beam.Create([1, 2, 3]) | beam.Map(spawns) | beam.Map(print)
"""

NESTED = """
import apache_beam as beam

def runs_another(n):
    with beam.Pipeline(runner="sage.runners.local.LocalRunner") as p:
        p | beam.Create([n]) | beam.Map(print)

def main(argv):
    with beam.Pipeline() as p:
        p | beam.Create([1]) | "Other" >> beam.Map(runs_another)
"""


@pytest.fixture
def run(tmp_path: Path):
    """Runs Python in a folder with a package; whatever it starts is ended with it."""
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "job.py").write_text(AT_IMPORT.format(runner=""))
    (package / "ours.py").write_text(AT_IMPORT.format(runner="'sage.runners.local.LocalRunner'"))
    (package / "nested.py").write_text(NESTED)
    in_two = 'LocalRunner", options=beam.options.pipeline_options.PipelineOptions(["--workers=2"]))'
    (package / "nested_in_two.py").write_text(NESTED.replace('LocalRunner")', in_two))
    (package / "__main__.py").write_text("from pkg import ours\n")
    (tmp_path / "uses.py").write_text("import pkg.ours\n")
    (tmp_path / "spawns.py").write_text(SPAWNS)

    def run(*command: str) -> tuple[int, str, str]:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)}, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=patience(40))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, out, err

    return run


@pytest.mark.parametrize("module", ["pkg.job", "pkg.ours"])
def test_a_module_whose_body_runs_its_job_is_done_when_it_is_imported(run, module: str) -> None:
    assert run(*RUN, module) == (0, "2\n4\n6\n", "")


@pytest.mark.parametrize(
    ("target", "module"), [("pkg.job", "pkg.job"), ("pkg.ours", "pkg.ours"), ("uses.py", "pkg.ours")]
)
def test_workers_refuse_to_start_the_job_that_they_are_part_of(run, target: str, module: str) -> None:
    code, out, err = run(*RUN, target, "--workers=2")

    assert (code, out) == (2, "")
    assert f"error: module '{module}' runs a pipeline when it is imported, and worker processes import it" in err
    assert 'if __name__ == "__main__":' in err
    assert "Traceback" not in err


def test_a_package_that_runs_a_job_when_it_is_imported_is_run_by_its_name(run) -> None:
    assert run("-m", "pkg")[:2] == (0, "2\n4\n6\n")
    code, _, err = run(*RUN, "pkg.__main__", "--workers=2")
    assert (code, "module 'pkg.ours' runs a pipeline when it is imported" in err) == (2, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_process_that_a_step_spawns_does_not_run_the_script_again(run, workers: str) -> None:
    code, out, err = run("spawns.py", f"--workers={workers}")

    assert code == 0
    # With one worker the child imports the script, and is refused; a worker's child has no script to import.
    assert out == ("1\n1\n1\n" if workers == "1" else "0\n0\n0\n"), err
    assert ("the main script runs a pipeline when a process of multiprocessing imports it" in err) == (workers == "1")


def test_a_step_in_a_worker_runs_a_pipeline_in_its_own_process_and_no_other(run) -> None:
    assert run(*RUN, "pkg.nested") == (0, "1\n", "")
    assert run(*RUN, "pkg.nested", "--workers=2") == (0, "1\n", "")
    code, _, err = run(*RUN, "pkg.nested_in_two", "--workers=2")

    assert code == 2
    assert "a step of a job that runs in worker processes cannot run a pipeline with --workers=2" in err
