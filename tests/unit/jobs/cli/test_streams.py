"""`sage run` with jobs that have no end: how they begin, how they are stopped, what is said of it."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from sage.handle import JobHandle, observe_jobs
from sage.jobs.cli import main, steering
from sage.jobs.cli.control import ask, registry
from sage.jobs.cli.progress import LiveDisplay
from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from tests.recovery.streams import Numbers

JOB = """
    from sage.sources import ReadStream
    from tests.recovery.streams import Numbers

    def seen(pair):
        {seen}
        return pair

    with beam.Pipeline() as p:
        p | "Read" >> ReadStream(Numbers({upto}, {rate})) | "See" >> beam.Map(seen)
"""


@pytest.fixture
def sage(sage: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `sage ARGS` as in a process of its own, where pytest's log handlers are not."""

    def run(*args: object) -> Any:
        with monkeypatch.context() as alone:
            alone.setattr(logging.root, "handlers", [])
            return sage(*args)

    return run


def endless(script: Any, seen: str = "pass") -> Path:
    return script(JOB.format(seen=seen, upto=1_000_000, rate=2_000))


def when_it_reads(do: Any) -> Any:
    """An observer of jobs that does something with the first one when it has read something."""

    pause = threading.Event()

    def observe(job: JobHandle) -> None:
        def wait() -> None:
            while not (vitals := job.vitals()) or not vitals.read:
                pause.wait(0.002)
            do(job)

        threading.Thread(target=wait, daemon=True).start()

    return observe_jobs(observe)


def test_a_job_says_whether_it_goes_on(sage, script, tmp_path):
    kept = tmp_path / "kept"
    options = [endless(script), "--checkpoint-dir", kept, "--json"]

    with when_it_reads(lambda job: os.kill(os.getpid(), signal.SIGTERM)):
        first = sage("run", *options)
    with when_it_reads(lambda job: os.kill(os.getpid(), signal.SIGTERM)):
        then = sage("run", *options, "--workers=1")

    stopped = first.document["jobs"][0]["stopped_at"]
    assert (first.code, first.document["jobs"][0]["state"]) == (0, "DONE")
    assert f"job begins anew: no checkpoint in {kept}\n" in first.err
    assert f"stopped job; its state is in {stopped}: the same command goes on from there\n" in first.err
    assert f"job goes on from {Path(stopped).name} (taken " in then.err


def test_a_job_that_keeps_no_checkpoints_is_stopped_where_it_stands(sage, script):
    def stop(job: JobHandle) -> None:
        main(["stop", str(os.getpid())])
        main(["stop", str(os.getpid()), "--now"])

    with when_it_reads(stop):
        ran = sage("run", endless(script))

    assert ran.code == 130
    assert "error: the job has no place for checkpoints: run it with --checkpoint_dir; --now ends it" in ran.err
    assert "job: stopped without a checkpoint\n" in ran.out


def test_who_stops_a_job_is_told_that_a_slow_step_keeps_it_waiting(sage, script, tmp_path, monkeypatch):
    monkeypatch.setattr(steering, "_SLOW_S", 0.01)
    slow = endless(script, seen="import time; time.sleep(0.3)")

    with when_it_reads(lambda job: main(["stop", str(os.getpid())])):
        ran = sage("run", slow, "--checkpoint-dir", tmp_path / "kept")

    assert ran.code == 0
    assert "job: waiting until each step is through with what came before\n" in ran.err
    assert "job: stopped with its state in " in ran.out


def test_one_signal_ends_a_job_that_keeps_no_checkpoints(sage, script):
    with when_it_reads(lambda job: os.kill(os.getpid(), signal.SIGINT)):
        ran = sage("run", endless(script))

    assert ran.code == 130
    assert ran.err == "interrupted: stopped job\n"


def test_a_job_that_cannot_take_a_last_checkpoint_is_stopped_all_the_same(sage, script, tmp_path):
    kept = tmp_path / "kept"

    def in_the_way(job: JobHandle) -> None:
        # What is to be the folder of the next checkpoint is a file.
        for number in range(1, 10):
            (kept / "job" / f"chk-{number:08}").write_text("")
        os.kill(os.getpid(), signal.SIGINT)

    with when_it_reads(in_the_way):
        ran = sage("run", endless(script), "--checkpoint-dir", kept)

    assert ran.code == 130
    assert "job is stopped without a last checkpoint: worker 0 cannot give its part" in ran.err
    assert ran.err.endswith("stopped job\n")


def test_a_job_that_is_cancelled_from_another_terminal_was_stopped(sage, script):
    with when_it_reads(lambda job: ask(registry() / f"{os.getpid()}.sock", do="cancel", job="job")):
        ran = sage("run", endless(script), "--json")

    assert (ran.code, ran.document["state"]) == (130, "CANCELLED")
    assert ran.err == "stopped job\n"


def test_a_job_has_the_name_that_it_is_given(sage, script, tmp_path):
    job = script(JOB.format(seen="pass", upto=10, rate=0))

    ran = sage("run", job, "--job-name", "orders", "--checkpoint-dir", tmp_path / "kept", "--json")

    assert [job["name"] for job in ran.document["jobs"]] == ["orders"]
    assert (tmp_path / "kept" / "orders").is_dir()
    assert sage("run", job, "--json").document["jobs"][0]["name"] == "job"


def test_a_job_that_was_tried_again_says_how_often(sage, script, tmp_path):
    job = script(JOB.format(seen="raise ValueError('each time')", upto=10, rate=0))

    ran = sage("run", job, "--checkpoint-dir", tmp_path / "kept", "--restart", "fixed-delay:2:1ms")

    assert ran.code == 1
    assert ran.err.count("begins again") == 2
    assert "fault: user code (tried 3 times; " in ran.err


def test_the_last_picture_of_a_job_says_that_it_was_stopped(tmp_path):
    screen = io.StringIO()
    options = PipelineOptions([], checkpoint_dir=str(tmp_path), job_name="orders")
    with (
        LiveDisplay(Console(file=screen, force_terminal=True, width=100, color_system=None)) as display,
        observe_jobs(display.watch),
        when_it_reads(lambda job: job.stop()),
        beam.Pipeline(runner=LocalRunner(), options=options) as p,
    ):
        p | ReadStream(Numbers(1_000_000, 2_000))

    assert "orders  stopped" in screen.getvalue()
    assert "orders  done" not in screen.getvalue()
