"""`sage run --explain`: which way each step would run, and why, without running it."""

from __future__ import annotations

import importlib.util

import pytest

JOB = """
    import contextlib

    class Contextual(beam.DoFn):
        def process(self, element, cm=beam.DoFn.SetupContextParam(contextlib.nullcontext)):
            raise AssertionError("nothing runs")

    class Timed(beam.DoFn):
        def setup(self):
            raise AssertionError("nothing is set up")

        def process(self, element, when=beam.DoFn.TimestampParam):
            yield element, 1

    print("building")
    with beam.Pipeline() as p:
        made = p | "Make" >> beam.Create([1, 2])
        made | "Timed" >> beam.ParDo(Timed()) | "Count" >> beam.CombinePerKey(sum) | "Show" >> beam.Map(print)
        made | "Contextual" >> beam.ParDo(Contextual())
    print("never reached")
"""
REASON = "parameter 'cm' is a DoFn.SetupContextParam, which only Beam's DoFnRunner gives"


def test_each_step_is_shown_with_its_way_its_line_and_why_it_is_not_compiled(sage, script):
    job = script(JOB)
    ran = sage("run", job, "--explain")

    assert ran.code == 0
    assert "building" in ran.err
    assert "never reached" not in ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["stage", "way", "step", "line"]
    assert ["1", "bound", "Timed", f"{job}:19"] in lines
    assert ["1", "general", "Contextual", f"{job}:20"] in lines
    assert f"why: {REASON}" in ran.out
    assert [line[:3] for line in lines if "Count" in line] == [["1", "compiled", "Count"], ["2", "engine", "Count"]]
    assert lines[-1] == "8 steps: 4 compiled, 1 bound, 1 general, 2 engine".split()


def test_the_explanation_is_one_json_document_on_demand(sage, script):
    steps = {step["name"]: step for step in sage("run", script(JOB), "--explain", "--json").document["steps"]}

    assert (steps["Contextual"]["path"], steps["Contextual"]["reason"]) == ("general", REASON)
    assert (steps["Timed"]["path"], steps["Timed"]["reason"], steps["Timed"]["kind"]) == ("bound", None, "pardo")


RUNS = """
    import contextlib

    class Contextual(beam.DoFn):
        def process(self, element, cm=beam.DoFn.SetupContextParam(contextlib.nullcontext)):
            yield element

    with beam.Pipeline() as p:
        made = p | "Make" >> beam.Create([1, 2]) | "Pair" >> beam.Map(lambda x: (x % 2, x))
        one = made | "Sum" >> beam.CombinePerKey(sum) | "Contextual" >> beam.ParDo(Contextual())
        side = beam.pvalue.AsDict(one)
        made | "Side" >> beam.Map(lambda x, names: (x, names), side) | "Windows" >> beam.WindowInto(
            beam.window.FixedWindows(5)) | beam.Reshuffle() | "Group" >> beam.GroupBy(lambda x: 1)
"""


@pytest.mark.parametrize("options", [(), ("--execution-path=general",), ("--execution-path=bound",), ("--workers=2",)])
def test_the_job_runs_as_explained(sage, script, options):
    job = script(RUNS)
    explained = sage("run", job, "--explain", "--json", *options).document["steps"]
    ran = sage("run", job, "--json", *options).document["jobs"][0]["steps"]

    foretold = {
        (step["name"], step["path"], step["reason"])
        for step in explained
        if step["path"] in ("general", "compiled", "bound")
    }
    assert foretold == {(step["name"], step["path"], step["reason"]) for step in ran if step["path"]}
    assert any(reason for _, path, reason in foretold if path == "general")


def test_why_is_that_a_way_was_asked_for(sage, script):
    steps = sage("run", script(JOB), "--explain", "--json", "--execution-path=compiled").document["steps"]
    reasons = {step["name"]: step["reason"] for step in steps}

    assert (reasons["Timed"], reasons["Contextual"]) == ("--execution_path=compiled", REASON)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_steps_of_another_host_are_explained_without_it_being_started(sage, script):
    ran = sage("run", script(JOB), "--explain", "--runner", "ray")

    assert (ran.code, "SetupContextParam" in ran.out) == (0, True)


def test_a_job_on_a_runner_that_is_not_ours_is_refused(sage, script):
    ran = sage("run", script(JOB), "--explain", "--runner", "DirectRunner")

    assert ran.code == 2
    assert "plans its steps itself" in ran.err


def test_a_job_that_runs_nothing_has_nothing_to_explain(sage, script):
    ran = sage("run", script("print('no pipeline')"), "--explain")

    assert (ran.code, ran.out) == (2, "")
    assert "it builds none" in ran.err
