"""Ctrl-C: a user's function is never interrupted by an exception, and nothing of its element goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import patience

SAGE = ["-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run"]

CATCHES_ALL = """
import sys, time
import apache_beam as beam
from sage.runners.local import LocalRunner

def slow(n):
    try:
        print("started", file=sys.stderr, flush=True)
        {wait}
    except:
        return None
    return n

with beam.Pipeline(runner=LocalRunner(){options}) as p:
    p | beam.Create(range(100)) | beam.Map(slow) | beam.Map(lambda n: print("went on:", n, flush=True))
print("the script went on", flush=True)
"""

STREAM = """
import sys, time
import apache_beam as beam
from sage.sources import ReadStream
from tests.recovery.streams import Numbers

def slow(pair):
    while True:
        try:
            print("started", file=sys.stderr, flush=True)
            time.sleep(0.05)
        except:
            return None

with beam.Pipeline() as p:
    p | ReadStream(Numbers(1_000, 0)) | beam.Map(slow) | beam.Map(lambda n: print("went on:", n, flush=True))
"""


def job_of(folder: Path, text: str, **parts: str) -> str:
    path = folder / "job.py"
    path.write_text(text.format(wait="time.sleep(0.7)", options="") if not parts else text.format(**parts))
    return str(path)


def interrupted(command: list[str], times: int = 1, number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Runs a command until it says that a function has started, and sends it signals."""
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is started in the background ignores it
    try:
        job = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}, start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, heard)
    assert job.stderr is not None
    try:
        while "started" not in (line := job.stderr.readline()):
            assert line, job.wait()
        for _ in range(times):
            job.send_signal(number)
            time.sleep(0.1)  # two signals that come together are one
        out, err = job.communicate(timeout=patience(30))
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    return job.returncode, out, err.replace("started\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--execution-path=general"], ["--workers=2"], ["--json"]])
def test_nothing_of_an_interrupted_element_goes_on(tmp_path: Path, options: list[str], number: int) -> None:
    code, out, err = interrupted([*SAGE, job_of(tmp_path, CATCHES_ALL), *options], number=number)

    assert code == 130
    assert err == "interrupted: stopped job\n"
    if options == ["--json"]:
        assert json.loads(out)["state"] == "CANCELLED"
    elif options == ["--execution-path=general"]:
        # Beam's own code calls the steps of this path one inside the other: the element at hand is finished.
        assert out in ("", "went on: 0\n")
    else:
        assert out == ""


@pytest.mark.parametrize("wait", ["time.sleep(60)", "while True: input_never()"])
@pytest.mark.parametrize("options", [[], ["--workers=2"]])
def test_a_function_that_does_not_return_does_not_keep_the_command(
    tmp_path: Path, wait: str, options: list[str]
) -> None:
    never = "    def input_never():\n        try: time.sleep(0.1)\n        except: pass\n"
    text = CATCHES_ALL.replace("    try:", f"{never}    try:")
    code, out, err = interrupted([*SAGE, job_of(tmp_path, text, wait=wait, options=""), *options])

    assert (code, out, err) == (130, "", "interrupted: stopped job\n")


@pytest.mark.parametrize("options", [[], ["--workers=2"], ["--json"]])
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, options: list[str]) -> None:
    job = job_of(tmp_path, CATCHES_ALL, wait="time.sleep(3600)", options="")

    code, out, err = interrupted([*SAGE, job, *options], times=2)

    assert (code, err) == (130, "interrupted: stopped job\n")
    assert "went on" not in out


@pytest.mark.parametrize("times", [1, 2])
def test_a_stream_whose_step_never_returns_is_ended(tmp_path: Path, times: int) -> None:
    path = tmp_path / "job.py"
    path.write_text(STREAM)

    code, out, err = interrupted([*SAGE, str(path)], times=times)

    assert (code, out, err) == (130, "", "interrupted: stopped job\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_script_of_its_own_ends_as_python_ends_one(tmp_path: Path, workers: str) -> None:
    options = f", options=beam.options.pipeline_options.PipelineOptions(['--workers={workers}'])"

    code, out, err = interrupted([job_of(tmp_path, CATCHES_ALL, wait="time.sleep(0.7)", options=options)])

    assert (code, out) == (-signal.SIGINT, "")
    assert err.endswith("KeyboardInterrupt\n")


def test_a_script_may_catch_the_interrupt_of_its_job(tmp_path: Path) -> None:
    text = CATCHES_ALL.replace("with beam", "try:\n  with beam").replace("    p |", "      p |")
    caught = 'except KeyboardInterrupt:\n  print("stopped by the user", flush=True)\n'
    text = text.replace('print("the script', f'{caught}print("the script')

    code, out, _ = interrupted([job_of(tmp_path, text, wait="time.sleep(60)", options="")])

    assert (code, out) == (0, "stopped by the user\nthe script went on\n")


def test_a_second_ctrl_c_ends_a_script_at_once(tmp_path: Path) -> None:
    job = job_of(tmp_path, CATCHES_ALL, wait="time.sleep(3600)", options="")

    assert interrupted([job], times=2)[:2] == (-signal.SIGINT, "")


def test_an_exit_that_a_signal_asks_for_is_no_failure_of_a_step(tmp_path: Path) -> None:
    handler = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    text = CATCHES_ALL.replace("\ndef slow", f"\n{handler}\ndef slow")

    code, out, err = interrupted([job_of(tmp_path, text)], number=signal.SIGTERM)

    assert (code, out) == (7, "")
    assert "Traceback" not in err


IMPORTING = """
import sys, time

class Waits:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("started", file=sys.stderr, flush=True)
            time.sleep(0.5)

sys.meta_path.insert(0, Waits())
from sage.jobs.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["click", "sage.jobs.cli.run", "apache_beam", "numpy", "apache_beam.pipeline"])
def test_ctrl_c_while_the_command_is_imported_is_one_line(tmp_path: Path, module: str) -> None:
    job = job_of(tmp_path, CATCHES_ALL)

    code, out, err = interrupted(["-c", IMPORTING.format(module=module), "run", job])

    assert (code, out, err) == (130, "", "interrupted\n")


CANCELS = """
import sys, threading, time
import apache_beam as beam
from sage.handle import observe_jobs
from sage.runners.local import LocalRunner

threading.at_work = threading.Event()  # in a module: functions have copies of what this script has

def slow(n):
    threading.at_work.set()
    try:
        time.sleep(0.3)
    except:
        return None
    return n

def cancel(job):
    def soon():
        threading.at_work.wait()
        job.cancel()
    threading.Thread(target=soon).start()

with observe_jobs(cancel):
    p = beam.Pipeline(runner=LocalRunner())
    p | beam.Create(range(1000)) | beam.Map(slow) | beam.Map(lambda n: print("went on:", n, flush=True))
    print(p.run().state)
print("the script went on")
"""


def test_a_job_that_is_cancelled_from_a_thread_ends_with_the_element_at_hand(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_text(CANCELS)

    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=patience(30),
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "CANCELLED\nthe script went on\n"), done.stderr
