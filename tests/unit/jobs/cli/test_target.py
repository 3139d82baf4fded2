"""What `sage run` may be pointed at, and how it is called."""

from __future__ import annotations

import importlib.util

import pytest

BUILD = """
    def argv_job(argv):
        print("argv", argv)

    def options_job(pipeline_options):
        print("options", pipeline_options.view_as(beam.options.pipeline_options.StandardOptions).streaming)

    def annotated_job(flags: beam.options.pipeline_options.PipelineOptions):
        print("annotated", type(flags).__name__)

    def pipeline_job(p):
        p | beam.Create([1]) | beam.Map(print)

    def plain_job():
        print("plain")

    def returning_job():
        p = beam.Pipeline()
        p | beam.Create([2]) | beam.Map(print)
        return p

    def environment_job():
        from sage import LocalEnvironment
        env = LocalEnvironment("env")
        env.from_collection([3]).map(print)
        return env

    def failing_main():
        return 4

    def strange(one, two):
        pass

    number = 7
"""


@pytest.mark.parametrize(
    ("function", "out"),
    [
        ("argv_job", "argv ['--streaming']"),
        ("options_job", "options True"),
        ("annotated_job", "annotated PipelineOptions"),
        ("pipeline_job", "1"),
        ("plain_job", "plain"),
        ("returning_job", "2"),
        ("environment_job", "3"),
    ],
)
def test_a_function_gets_what_its_first_parameter_asks_for(sage, script, function, out):
    ran = sage("run", f"{script(BUILD)}:{function}", "--", "--streaming")

    assert (ran.code, ran.out, ran.err) == (0, out + "\n", "")


def test_a_main_function_that_returns_an_exit_code_fails_by_it(sage, script):
    assert sage("run", f"{script(BUILD)}:failing_main").code == 1


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("strange", "cannot call strange(one, two)"),
        ("plain_jub", "Did you mean 'plain_job'?"),
        ("number", "is no function: its type is int"),
    ],
)
def test_a_function_that_cannot_be_called_is_wrong_usage(sage, script, function, told):
    ran = sage("run", f"{script(BUILD)}:{function}")

    assert ran.code == 2
    assert told in ran.err


def test_a_script_has_the_type_hints_that_python_gives_it(sage, script):
    build = """
        def upper(word: str) -> str:
            return word.upper()

        with beam.Pipeline() as p:
            p | beam.Create([1]) | "up" >> beam.Map(upper)
    """
    ran = sage("run", script(build))

    assert ran.code == 1
    assert "'up' requires PCollections of type '<class 'str'>'" in ran.err


def test_a_module_runs_by_its_main_or_by_a_named_function(sage, script, monkeypatch):
    job = script(
        """
        def run(argv=None, save_main_session=True):
            print("run", argv)
        def other():
            print("other")
        """,
        name="a_job_module.py",
    )
    monkeypatch.chdir(job.parent)

    assert sage("run", "a_job_module", "--", "-x").out == "run ['-x']\n"
    assert sage("run", "a_job_module:other").out == "other\n"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("jop.py", "there is no file jop.py. Did you mean job.py?"),
        ("nowhere/job.py", "the folder nowhere does not exist"),
        ("no_such_module", "there is no module 'no_such_module'"),
        ("no_such_package.module:f", "there is no module 'no_such_package.module'"),
        ("a b", "neither a file nor a module"),
        ("pipeline.yaml", "there is no file pipeline.yaml"),
        ("./", "is a folder"),
    ],
)
def test_a_missing_target_is_told_in_one_line(sage, script, monkeypatch, target, told):
    monkeypatch.chdir(script("pass").parent)

    ran = sage("run", target)

    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_a_module_that_misses_an_import_is_the_users_error_with_its_line(sage, script, monkeypatch):
    job = script("import missing_beside\n", name="a_broken_module.py")
    monkeypatch.chdir(job.parent)

    ran = sage("run", "a_broken_module")

    assert ran.code == 1
    assert "a_broken_module.py:2" in ran.err


YAML = """
pipeline:
  type: chain
  transforms:
    - type: Create
      config: {elements: [1, 2]}
    - type: LogForTesting
"""


FAILING = "MapToFields\n      config: {language: python, fields: {b: a / 0}}"


def test_beam_yaml_runs_or_names_the_extra(sage, tmp_path):
    job = tmp_path / "pipeline.yaml"
    job.write_text(YAML)

    ran = sage("run", job, "--json")

    if importlib.util.find_spec("jinja2") is None:
        assert ran.code == 2
        assert "pip install 'sage-stream[yaml]'" in ran.err
    else:
        assert ran.code == 0
        assert ran.document["jobs"][0]["state"] == "DONE"
        job.write_text(YAML.replace("[1, 2]", "[{a: 1}]").replace("LogForTesting", FAILING))
        failed = sage("run", job, "--json").document["error"]
        assert (failed["type"], failed["applied_at"]) == ("ZeroDivisionError", None)
