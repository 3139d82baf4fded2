"""Beam's own tests of what a runner must do, on the embedded runner; the other suites run in `make conformance`."""

from __future__ import annotations

import pytest

from tests.conformance.suites import SHORT, SUITES
from tests.conformance.verdict import Run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SHORT)
def test_suite_does_what_is_expected(name: str) -> None:
    verdict = Run().run(SUITES[name])
    assert verdict.as_expected, str(verdict)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_runner_that_runs_nothing_passes_nothing_that_is_checked() -> None:
    verdict = Run("tests.conformance.nothing.NothingRunner", select="test_flatten or test_combine").run(SUITES["fnapi"])
    assert verdict.reached
    assert not verdict.passed
    assert any("hollow" in text for text in verdict.failed)
