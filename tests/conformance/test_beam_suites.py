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
