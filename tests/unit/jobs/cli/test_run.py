"""`sage run`: which runner and options a job gets, what is printed, how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import StandardOptions

from sage.errors import MissingExtra
from sage.jobs.cli.runners import resolve_runner
from sage.options import SageOptions
from tests.patience import patience

WORD_COUNT = """
    with beam.Pipeline() as p:
        (p | beam.Create(["a b", "b c"]) | "Split" >> beam.FlatMap(str.split)
           | "Count" >> beam.combiners.Count.PerElement() | "Print" >> beam.Map(print))
"""


def test_a_script_runs_on_the_local_runner_and_prints_only_its_own_output(sage, script):
    ran = sage("run", script(WORD_COUNT))

    assert ran.code == 0
    assert sorted(ran.out.split("\n")) == ["", "('a', 1)", "('b', 2)", "('c', 1)"]
    assert ran.err == ""


def test_a_pipeline_that_names_no_runner_gets_ours_and_the_given_options(sage, script):
    job = script("""
        from sage.options import SageOptions
        p = beam.Pipeline()
        print(type(p.runner).__module__, type(p.runner).__name__)
        view = p.options.view_as(SageOptions)
        print(view.workers, view.memory_limit, view.execution_path)
    """)

    ran = sage("run", job, "--workers", "3", "--memory-limit", "1KB", "--execution_path=general")

    assert ran.out.split("\n")[:2] == ["sage.runners.local.runner LocalRunner", "3 1024 general"]


def test_what_the_code_itself_says_wins_over_the_command_line(sage, script):
    job = script("""
        from sage.options import SageOptions
        from apache_beam.options.pipeline_options import PipelineOptions
        p = beam.Pipeline(runner="DirectRunner", options=PipelineOptions(["--workers=2"]))
        print(type(p.runner).__name__, p.options.view_as(SageOptions).workers)
    """)

    ran = sage("run", job, "--workers", "5")

    assert ran.out.startswith("SwitchingDirectRunner 2") or ran.out.startswith("DirectRunner 2")
    assert "--workers had no effect" in ran.err


def test_the_command_leaves_no_defaults_behind(sage, script):
    before = StandardOptions.DEFAULT_RUNNER

    sage("run", script("pass"), "--workers", "7")

    assert before == StandardOptions.DEFAULT_RUNNER
    assert SageOptions([]).workers == 1


def test_job_options_and_the_folder_of_the_script_are_set_as_python_sets_them(sage, script):
    script("WORD = 'here'", name="beside.py")
    job = script("""
        import sys, beside
        assert __name__ == "__main__" and sys.modules["__main__"].__file__ == __file__
        print(sys.argv[1:], beside.WORD)
    """)

    ran = sage("run", job, "--", "--input", "in.txt", "--json")

    assert ran.out == "['--input', 'in.txt', '--json'] here\n"


def test_json_is_the_only_thing_on_stdout(sage, script):
    job = script("""
        from apache_beam.metrics import Metrics
        import os
        class Counting(beam.DoFn):
            def process(self, n):
                Metrics.counter("mine", "seen").inc()
                Metrics.distribution("mine", "sizes").update(n)
                yield n
        print("printed")
        os.write(1, b"written to the descriptor\\n")
        with beam.Pipeline() as p:
            p | "Numbers" >> beam.Create([1, 2, 3]) | "See" >> beam.ParDo(Counting()) | "Print" >> beam.Map(print)
    """)

    ran = sage("run", job, "--json")

    document = ran.document
    assert (ran.code, document["state"], document["exit_code"], document["error"]) == (0, "DONE", 0, None)
    assert document["runner"] == "local"
    assert document["wall_ms"] > 0
    (ran_job,) = document["jobs"]
    steps = {step["name"]: step for step in ran_job["steps"]}
    assert (steps["See"]["elements_in"], steps["See"]["elements_out"], steps["See"]["state"]) == (3, 3, "done")
    assert ran_job["metrics"]["counters"] == [{"step": "See", "namespace": "mine", "name": "seen", "value": 3}]
    assert ran_job["metrics"]["distributions"][0]["value"] == {"count": 3, "sum": 6, "min": 1, "max": 3, "mean": 2.0}
    assert "printed" in ran.err
    assert "written to the descriptor" in ran.err


FAILING = """
    def parse(line):
        return int(line)

    with beam.Pipeline() as p:
        p | beam.Create(["1", "x"]) | "Parse" >> beam.Map(parse)
"""


def test_a_failed_step_ends_with_1_and_shows_step_line_and_cause(sage, script):
    job = script(FAILING)

    ran = sage("run", job)

    assert ran.code == 1
    assert "step 'Parse' failed" in ran.err
    assert "ValueError: invalid literal for int() with base 10: 'x'" in ran.err
    assert f"raised at {job}:4\n      return int(line)" in ran.err
    assert f"applied at {job}:7\n" in ran.err
    assert '"Parse" >> beam.Map(parse)' in ran.err
    assert "Traceback" not in ran.err
    assert "sage/" not in ran.err.replace(str(job), "")
    assert "site-packages" not in ran.err


def test_traceback_shows_every_frame(sage, script):
    ran = sage("run", script(FAILING), "--traceback")

    assert ran.code == 1
    assert "Traceback (most recent call last)" in ran.err
    assert "step 'Parse' failed" in ran.err


@pytest.mark.parametrize("as_json", [True, False])
def test_elements_that_were_dropped_as_late_are_told_of(sage, script, as_json):
    job = script("""
        from apache_beam.testing.test_stream import TestStream
        from apache_beam.transforms.window import FixedWindows, TimestampedValue as At
        events = TestStream().add_elements([At(("k", 1), 1)]).advance_watermark_to(20)
        events = events.add_elements([At(("k", 1), 2), At(("k", 1), 3)])
        events = events.advance_watermark_to(30).add_elements([At(("k", 1), 4)]).advance_watermark_to_infinity()
        with beam.Pipeline() as p:
            p | events | beam.WindowInto(FixedWindows(10)) | "Count" >> beam.CombinePerKey(sum)
    """)

    ran = sage("run", job, *(["--json"] if as_json else []))

    # Other tests of this process may have left a handler that prints, too.
    (warning,) = [line for line in ran.err.splitlines() if line.startswith("warning: step 'Count")]
    (note,) = [line for line in ran.err.splitlines() if line.startswith("note: ")]
    assert "dropped 2 elements as late, the first of this run" in warning
    assert note.startswith("note: step 'Count")
    assert note.endswith("has dropped 3 late elements")
    if as_json:
        (ran_job,) = ran.document["jobs"]
        assert [step["late_dropped"] for step in ran_job["steps"] if step["late_dropped"]] == [3]
        (counter,) = ran_job["metrics"]["counters"]
        assert (counter["name"], counter["value"]) == ("numLateRecordsDropped", 3)


def test_json_tells_of_a_failure(sage, script):
    job = script(FAILING)

    ran = sage("run", job, "--json")

    document = ran.document
    assert (ran.code, document["exit_code"], document["state"]) == (1, 1, "FAILED")
    assert document["error"]["type"] == "ValueError"
    assert document["error"]["step"] == "Parse"
    assert document["error"]["raised_at"] == {"file": str(job), "line": 4, "text": "return int(line)"}
    assert document["error"]["applied_at"]["line"] == 7
    assert document["error"]["fault"] == "user code"
    assert document["jobs"][0]["state"] == "FAILED"


def test_a_step_that_fails_in_a_worker_process_is_shown_the_same_way(sage, script):
    job = script(FAILING)

    ran = sage("run", job, "--workers", "2", "--json")

    error = ran.document["error"]
    assert (ran.code, error["type"], error["step"]) == (1, "ValueError", "Parse")
    assert error["message"] == "invalid literal for int() with base 10: 'x'"
    assert error["raised_at"] == {"file": str(job), "line": 4, "text": "return int(line)"}


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ("undefined_name\n", "NameError: name 'undefined_name' is not defined", 2),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'", 2),
        ("x = (1\n", "SyntaxError: '(' was never closed", 2),
        (
            "p = beam.Pipeline()\np | beam.Create([1]) | beam.Map(len).with_input_types(str)\n",
            "TypeCheckError: ",
            3,
        ),
        ("import json\njson.loads('{')\n", "JSONDecodeError: ", 3),
        pytest.param(
            "(beam.Pipeline()\n | beam.Create([1])\n | beam.GroupByKey()\n | beam.Map(print))\n",
            "Input type hint violation at GroupByKey",
            4,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps no columns"),
        ),
    ],
)
def test_an_error_outside_any_step_shows_the_innermost_line_of_the_user(sage, script, body, message, line):
    job = script(body)

    ran = sage("run", job)

    assert ran.code == 1
    assert message in ran.err
    assert f"raised at {job}:{line}\n" in ran.err
    assert "Traceback" not in ran.err


def test_a_refusal_of_the_runner_ends_with_3(sage, script):
    job = script("""
        from sage.errors import Refusal, UnsupportedFeature
        raise UnsupportedFeature("local", [Refusal("Read", "a feature", ("flink",))])
    """)

    ran = sage("run", job)

    assert ran.code == 3
    assert "step 'Read': a feature (available on: flink)" in ran.err


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit()", 0), ("sys.exit(0)", 0), ("sys.exit(2)", 2), ("sys.exit(9)", 1)]
)
def test_a_script_that_ends_itself(sage, script, ending, code):
    assert sage("run", script(f"import sys\n{ending}\n")).code == code


def test_a_failed_job_whose_error_the_script_swallows_is_still_a_failed_job(sage, script):
    job = script("""
        p = beam.Pipeline()
        p | beam.Create([0]) | beam.Map(lambda n: 1 / n)
        try:
            p.run()
        except Exception:
            pass
    """)

    ran = sage("run", job)

    assert ran.code == 1
    assert "ended as FAILED" in ran.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--wokers", "2"], "Did you mean '--workers'?"),
        (["--input", "x"], "go after `--`"),
        (["--workers", "many"], "'many' is not a valid int"),
        (["--memory-limit", "12XB"], "'12XB' is not a size in bytes"),
        (["--execution-path", "fast"], "'compiled'"),
        (["--runner", "loca"], "Did you mean 'local'?"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(sage, script, args, told):
    ran = sage("run", script("pass"), *args)

    assert ran.code == 2
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_a_missing_extra_is_one_line(sage, script, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    ran = sage("run", script("pass"), "--runner", "ray")

    assert ran.code == 2
    assert ran.err == "error: --runner ray needs an extra: pip install 'sage-stream[ray]'\n"
    with pytest.raises(MissingExtra):
        resolve_runner("flink")


def test_an_unknown_command_names_the_nearest(sage):
    ran = sage("rum")

    assert ran.code == 2
    assert "Did you mean 'run'?" in ran.err


def test_help_shows_examples_and_the_options_of_sage(sage):
    ran = sage("run", "--help")

    assert ran.code == 0
    assert "sage run job.py --workers 4" in ran.out
    assert "--memory-limit SIZE" in ran.out


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_with_130_and_one_line(script, as_json):
    job = script("""
        import sys, time
        def slow(n):
            print("started", file=sys.stderr, flush=True)
            time.sleep(60)
        with beam.Pipeline() as p:
            p | beam.Create([1]) | beam.Map(slow)
    """)
    command = [sys.executable, "-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run", str(job)]
    # What runs in the background of a script ignores Ctrl-C, and so does what it starts; a terminal's does not.
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        running = subprocess.Popen(
            command + ["--json"] * as_json, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, heard)
    assert running.stderr is not None
    assert running.stderr.readline() == "started\n"

    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=patience(30))

    assert running.returncode == 130
    assert err.startswith("interrupted")
    assert err.count("\n") == 1
    if as_json:
        assert json.loads(out)["state"] == "CANCELLED"
    else:
        assert out == ""
