"""Limits of tests grow with SAGE_TEST_PATIENCE."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.patience import FACTOR, patience

TESTS = Path(__file__).parents[1]


def test_every_limit_is_multiplied(request: pytest.FixtureRequest) -> None:
    assert patience(10) == 10 * FACTOR
    assert float(request.config.getoption("timeout")) >= 120 * min(FACTOR, 1)
    assert settings().deadline is None


@pytest.mark.parametrize("factor", ["1", "2.5"])
def test_the_factor_comes_from_the_environment(factor: str) -> None:
    code = "from tests.patience import patience; print(patience(10))"
    environment = os.environ | {"SAGE_TEST_PATIENCE": factor}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == 10 * float(factor)


def test_no_test_has_a_limit_of_its_own() -> None:
    # Short ones are of parts that are asked to give up.
    own = re.compile(r"timeout=\d{2,}|monotonic\(\) \+ \d{2,}|deadline=\d|monotonic\(\) - \w+ < \d")
    found = [
        f"{path.relative_to(TESTS)}:{number}: {line.strip()}"
        for path in TESTS.rglob("*.py")
        if "benchmarks" not in path.parts and path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if own.search(line)
    ]
    assert not found, "\n".join(found)
