"""The live display."""

from __future__ import annotations

import io

import apache_beam as beam
import pytest
from rich.console import Console

from sage.handle import Checkpointed, StepProgress, Vitals, observe_jobs
from sage.jobs.cli.progress import LiveDisplay, RateMeter, fold_steps, merge_steps, vitals_text
from sage.runners.local import LocalRunner

STEPS = [
    StepProgress("Read", 0, 10, 5.0, "done"),
    StepProgress("Count/Pair", 10, 10, 1.0, "done"),
    StepProgress("Count/Combine", 10, 4, 2.0, "done"),
    StepProgress("Count/Combine", 4, 3, 4.0, "running"),
    StepProgress("Write", 0, 0, 0.0, "waiting"),
]


def test_parts_of_a_composite_become_one_line():
    assert fold_steps(STEPS) == [
        StepProgress("Read", 0, 10, 5.0, "done"),
        StepProgress("Count", 10, 3, 7.0, "running"),
        StepProgress("Write", 0, 0, 0.0, "waiting"),
    ]


def test_a_step_that_is_run_as_two_becomes_one():
    merged = merge_steps(STEPS)

    assert [step.name for step in merged] == ["Read", "Count/Pair", "Count/Combine", "Write"]
    assert merged[2] == StepProgress("Count/Combine", 10, 3, 6.0, "running")


def test_a_rate_is_that_of_the_last_seconds():
    meter = RateMeter()
    rates = [meter.update(float(second), 100 * min(second, 3)) for second in range(12)]

    assert rates[0] == 0
    assert rates[3] == pytest.approx(100)
    assert rates[-1] == 0


def test_a_streaming_job_says_how_it_is_doing():
    taken = Checkpointed(12, "/x", 2_100_000, 114_000_000, began_ms=99_000, ended_ms=99_250)
    vitals = Vitals(watermark_ms=1_767_225_600_000, lag=12_345, read=7, checkpoint=taken, restarts=2)

    assert vitals_text(vitals, now=100.0, rate=41_234) == (
        "reads 41.2 k/s · lag 12,345 · event time 2026-01-01 00:00:00 · state 114.0 MB · "
        "checkpoint 12: 2.1 MB in 250 ms, 0.8 s ago · began again 2 times"
    )
    assert vitals_text(Vitals(lag=3, late_dropped=1_234), now=0.0) == "lag 3 · 1,234 dropped as late"
    assert vitals_text(Vitals(watermark_ms=9_223_372_036_854_775), now=0.0) == ""


def test_a_job_is_drawn_from_its_start_and_its_last_picture_stays():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)

    with (
        LiveDisplay(console) as display,
        observe_jobs(display.watch),
        beam.Pipeline(runner=LocalRunner()) as p,
    ):
        p | "Numbers" >> beam.Create(range(1500)) | "Double [x]" >> beam.Map(lambda n: 2 * n)

    last = screen.getvalue().split("\x1b[2K")[-1]
    assert "done" in last
    assert "✔" in last
    (line,) = [line for line in last.splitlines() if "Double [x]" in line]
    assert line.split()[3:5] == ["1,500", "1,500"]
