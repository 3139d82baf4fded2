"""Environments for the tests of the fluent front: every meaning is checked on SAGE's runner and on Beam's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import sage
from sage.testing import FN_API_RUNNER


@pytest.fixture
def env() -> sage.LocalEnvironment:
    return sage.LocalEnvironment("test")


@pytest.fixture(params=["local", FN_API_RUNNER], ids=["local", "fnapi"])
def make_env(request: pytest.FixtureRequest) -> Callable[[], sage.LocalEnvironment]:
    return lambda: sage.LocalEnvironment("test", {"runner": request.param})
