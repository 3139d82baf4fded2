"""One suite in a process of its own: collects Beam's tests, puts our runner under them, writes what came of each."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options import pipeline_options
from apache_beam.runners.runner import PipelineRunner
from apache_beam.testing.test_pipeline import TestPipeline

from tests.conformance.checks import Checks
from tests.conformance.suites import BEAM

RUNNER = "SAGE_CONFORMANCE_RUNNER"
OPTIONS = "SAGE_CONFORMANCE_OPTIONS"

reached = 0


def runner_under_test(**arguments: Any) -> PipelineRunner:
    """A runner that counts the pipelines it is given, and adds the options that are under test."""
    module, _, name = os.environ[RUNNER].rpartition(".")
    base: Any = getattr(importlib.import_module(module), name)

    class UnderTest(base):  # type: ignore[misc]
        def run_pipeline(self, pipeline: Any, options: Any) -> Any:
            global reached
            reached += 1
            for key, value in json.loads(os.environ.get(OPTIONS, "{}")).items():
                options.view_as(importlib.import_module("sage.options").SageOptions).__setattr__(key, value)
            return super().run_pipeline(pipeline, options)

    made: PipelineRunner = UnderTest(**arguments)
    return made


def put_under_tests() -> None:
    """Gives our runner to every pipeline, also where a test names one of Beam's."""
    dotted = f"{__name__}.runner_under_test"
    pipeline_options.StandardOptions.DEFAULT_RUNNER = dotted
    TestPipeline.pytest_test_pipeline_options = f"--runner={dotted}"
    make = beam.Pipeline.__init__

    @functools.wraps(make)
    def init(self: Any, runner: Any = None, *args: Any, **kwargs: Any) -> None:
        named = runner is None or isinstance(runner, str | PipelineRunner)
        ours = type(runner).__name__ == "UnderTest"
        make(self, runner_under_test() if named and not ours else runner, *args, **kwargs)

    beam.Pipeline.__init__ = init
    # As the conftest of Beam's repository does, which is not in its wheel.
    pipeline_options.enable_all_additional_type_checks()


class Recorder:
    """A pytest plugin: one JSON line for each test."""

    def __init__(self, path: str, checks: Checks) -> None:
        self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        self._checks = checks
        self._outcome: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        global reached
        reached = 0
        self._checks.begin(nodeid)
        self._outcome[nodeid] = ("passed", "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._outcome[report.nodeid] = ("failed", _summary(str(report.longrepr)))
        elif report.skipped and self._outcome[report.nodeid][0] == "passed":
            self._outcome[report.nodeid] = ("skipped", "")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        outcome, why = self._outcome.pop(nodeid)
        if outcome == "passed" and self._checks.missing:
            outcome, why = "failed", f"hollow: {self._checks.missing} checks inside its pipelines were not made"
        line = {"test": nodeid, "outcome": outcome, "reached": reached, "why": why}
        self._file.write(json.dumps(line) + "\n")


def _summary(text: str) -> str:
    errors = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return (errors or text.strip().splitlines()[-1:])[-1][:400]


def main(record: str, limit: str, arguments: list[str]) -> int:
    """Runs pytest on the files and choices in ``arguments``; ``limit`` is the most time a test may take (s)."""
    put_under_tests()
    checks = Checks(Path(tempfile.mkdtemp(dir=os.getcwd())))
    checks.watch()
    plugins = ["no:cacheprovider", "no:randomly", "no:xdist"]
    flags = [f"--timeout={limit}", "--timeout-method=signal", "-q", "--no-header", "--tb=short", "-W", "ignore"]
    site = os.path.dirname(BEAM)
    # Not the settings of this repository: they are for its own tests.
    options = ["-c", os.devnull, f"--rootdir={site}", "--import-mode=importlib", *flags]
    return int(pytest.main([*arguments, *options, *(f"-p{p}" for p in plugins)], plugins=[Recorder(record, checks)]))


if __name__ == "__main__":
    from tests.conformance import child  # the module that Beam finds by its name, with the one counter

    code = child.main(sys.argv[1], sys.argv[2], sys.argv[3:])
    sys.stdout.flush()
    # Threads that a test left behind must not hold the process.
    os._exit(code)
