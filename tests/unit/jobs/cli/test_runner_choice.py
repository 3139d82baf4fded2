"""`--runner` and code that names a runner; scripts that run nothing."""

from __future__ import annotations

import pytest

NAMES_ONE = """
    from sage.runners.local import LocalRunner
    print("the code runs")
    with beam.Pipeline({}) as p:
        p | beam.Create([1]) | beam.Map(print)
"""


@pytest.mark.parametrize(
    ("named", "asked", "refused"),
    [
        ("runner=LocalRunner()", "DirectRunner", True),
        ("runner='DirectRunner'", "local", True),
        ("options=beam.options.pipeline_options.PipelineOptions(['--runner=DirectRunner'])", "local", True),
        ("runner=LocalRunner()", "local", False),
        ("runner=LocalRunner()", "sage.runners.local.LocalRunner", False),
        ("runner='sage.runners.local.LocalRunner'", None, False),
        ("", "local", False),
        ("", "DirectRunner", False),
    ],
)
def test_a_runner_that_the_code_contradicts_is_refused(sage, script, named, asked, refused):
    ran = sage("run", script(NAMES_ONE.format(named)), *(["--runner", asked] if asked else []))

    if refused:
        assert (ran.code, ran.out) == (2, "the code runs\n")
        assert f"--runner {asked} asks for " in ran.err
        assert "the job's code names " in ran.err
    else:
        assert (ran.code, ran.out) == (0, "the code runs\n1\n")


def test_an_environment_that_names_a_runner_is_refused_too(sage, script):
    job = script("""
        from sage import LocalEnvironment
        env = LocalEnvironment("env", {"runner": "local"})
        env.from_collection([3]).map(print)
        env.execute()
    """)

    assert sage("run", job).code == 0
    assert sage("run", job, "--runner", "DirectRunner").code == 2


MAIN = """
    def main(argv=None):
        with beam.Pipeline() as p:
            p | beam.Create([1]) | beam.Map(print)
"""


def test_a_script_that_only_defines_main_has_it_called(sage, script):
    assert sage("run", script(MAIN)).out == "1\n"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("x = 1", "without running a pipeline: it builds none"),
        ("def build(p): pass", "without running a pipeline: it builds none"),
        (MAIN + "    if __name__ == '__mian__':\n        main()\n", "Its function main was not called: sage run "),
        ("from json import load as main", "without running a pipeline: it builds none"),
    ],
)
def test_a_script_that_runs_no_pipeline_is_wrong_usage(sage, script, body, told):
    ran = sage("run", script(body))

    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_a_pipeline_that_is_not_run_is_told(sage, script):
    ran = sage("run", script("p = beam.Pipeline()"))

    assert "builds a pipeline and does not run it" in ran.err


@pytest.mark.parametrize(
    "options",
    [
        ["--restore-from", "{folder}/none"],
        ["--restore-from", "{folder}/file"],
        ["--restore-from", "{folder}", "--checkpoint-dir", "{folder}/kept"],
        ["--checkpoint-dir", "{folder}/file"],
        ["--checkpoint-dir", "{folder}/file/below"],
        ["--checkpoint-dir", "/proc/none"],
        ["--checkpoint-dir", "nosuch://there"],
        ["--checkpoint-dir", "{folder}/kept", "--restore-from", "{folder}/none", "--workers", "2"],
        ["--state-backend", "rocksdb", "--state-dir", "{folder}/file"],
    ],
)
def test_a_path_that_cannot_be_is_wrong_usage(sage, script, tmp_path, options):
    (tmp_path / "file").write_text("")
    job = script("with beam.Pipeline() as p:\n    p | beam.Create([1]) | beam.Map(print)\n")

    ran = sage("run", job, *(option.format(folder=tmp_path) for option in options))

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", ["ConfigError('no')", "MissingExtra('it', 'ray')"])
def test_what_a_step_finds_wrong_in_its_options_is_wrong_usage(sage, script, error, workers):
    job = script(f"""
        from sage.errors import ConfigError, MissingExtra
        class Step(beam.DoFn):
            def setup(self):
                raise {error}
            def process(self, n):
                yield n
        with beam.Pipeline() as p:
            p | beam.Create([1]) | beam.ParDo(Step())
    """)

    assert sage("run", job, "--workers", workers).code == 2


OWN = """
    import sys
    p = beam.Pipeline(options=beam.options.pipeline_options.PipelineOptions(sys.argv[1:]))
    p | beam.Create([1]) | beam.Map(print)
    p.run()
"""


def test_beam_does_not_warn_of_a_jobs_own_options(sage, script):
    ran = sage("run", script(OWN), "--", "--day", "7", "--input=x")

    assert (ran.code, ran.out, ran.err) == (0, "1\n", "")


def test_an_option_that_is_nearly_beams_is_told_once(sage, script):
    ran = sage("run", script(OWN), "--", "--wokers", "2")

    assert (ran.code, ran.out) == (0, "1\n")
    assert ran.err == "warning: --wokers is no option of Beam or SAGE, which pass over it. Did you mean --workers?\n"


@pytest.mark.parametrize("command", ["run", "graph", "jobs", "savepoint", "stop", "drain", "chaos", "doctor"])
def test_help_tells_the_default_of_every_option(sage, command):
    ran = sage(command, "--help")

    assert ran.code == 0
    for name in ("workers", "state-backend", "execution-path", "max-bundle-time", "restart", "restore-from"):
        if f"\n  --{name} " in ran.out:
            about = ran.out.split(f"\n  --{name} ")[1].split("\n  --")[0]
            assert "efault: " in " ".join(about.split()), about
