"""Runs a suite and compares what came of it with what is expected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam

from tests.conformance.child import OPTIONS, RUNNER
from tests.conformance.expected import expected_failures
from tests.conformance.suites import Suite
from tests.patience import patience

ROOT = Path(__file__).parents[2]
LOCAL = "sage.runners.local.LocalRunner"
BEAM_VERSION = ".".join(apache_beam.__version__.split(".")[:2])


@dataclass(frozen=True)
class Verdict:
    """What came of a suite; only tests whose pipelines reached the runner count.

    ``wrong`` are failures that nobody expects, ``fixed`` expected failures that passed, each with what it says.
    """

    suite: str
    passed: int
    reached: int
    failed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def as_expected(self) -> bool:
        """Whether the runner was reached and each test did what it is expected to."""
        return bool(self.reached) and not self.wrong and not self.fixed

    def __str__(self) -> str:
        lines = [f"{self.suite}: {self.passed} of {self.reached} passed"]
        lines += [f"  failed, and is not expected to: {text}" for text in self.wrong]
        lines += [f"  passed, and is listed in expected.py: {text}" for text in self.fixed]
        return "\n".join(lines)


@dataclass
class Run:
    """How to run a suite.

    Args:
        runner: the dotted name of the runner under test.
        options: SAGE options to add to every pipeline.
        limit: the most time that one test may take (s).
        select: a part of the names of the tests to run; empty for all.
    """

    runner: str = LOCAL
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int = int(patience(60))
    select: str = ""

    def run(self, suite: Suite) -> Verdict:
        """Runs the suite in a process of its own.

        Raises:
            RuntimeError: the process ended before its tests.
        """
        chosen = " and ".join(f"({part})" for part in (suite.keyword, self.select) if part)
        flags = [*(["-k", chosen] if chosen else []), *(["-m", suite.mark] if suite.mark else [])]
        with tempfile.TemporaryDirectory() as folder:
            record, log = Path(folder, "record"), Path(folder, "log")
            environment = {
                **os.environ, RUNNER: self.runner, OPTIONS: json.dumps(dict(self.options)),
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            }  # fmt: skip
            command = [sys.executable, "-m", "tests.conformance.child", str(record), str(self.limit)]
            with log.open("w") as output:
                code = subprocess.call(
                    [*command, *suite.paths(), *flags], env=environment, cwd=folder,
                    stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                )  # fmt: skip
            if code not in (0, 1, 5):  # all passed, some failed, none chosen
                raise RuntimeError(f"suite {suite.name} ended with code {code}:\n{log.read_text()[-4000:]}")
            lines = record.read_text().splitlines() if record.exists() else []
        return judge(suite.name, [json.loads(line) for line in lines], int(self.options.get("workers", 1)))


def judge(suite: str, results: list[dict[str, Any]], workers: int = 1) -> Verdict:
    """The verdict over tests that were recorded with so many workers."""
    listed = expected_failures(BEAM_VERSION, workers)
    counted = [r for r in results if r["outcome"] != "skipped" and (r["reached"] or r["outcome"] == "failed")]
    failed, wrong, fixed, unreached = [], [], [], 0
    for result in counted:
        name = "::".join(result["test"].split("::")[-2:])
        expected = listed.get(name)
        if result["outcome"] == "failed":
            failed.append(f"{name}: {result['why']}")
            unreached += not result["reached"]
            if expected is None:
                wrong.append(f"{name}: {result['why']}")
        elif expected is not None and not expected.race:
            fixed.append(f"{name}: {expected.reason}")
    reached = len(counted) - unreached
    passed = len(counted) - len(failed)
    return Verdict(suite, passed, reached, tuple(failed), tuple(wrong), tuple(fixed))
