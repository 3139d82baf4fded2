from __future__ import annotations

import pytest

LOCAL = "--runner=sage.runners.local.LocalRunner"


@pytest.fixture(params=["local", "local, general", "local, 2 workers", "fnapi"])
def runner(request: pytest.FixtureRequest) -> list[str]:
    """The Beam options of each runner that a job must mean the same on."""
    return {
        "local": [LOCAL],
        "local, general": [LOCAL, "--execution_path=general"],
        "local, 2 workers": [LOCAL, "--workers=2"],
        "fnapi": ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"],
    }[request.param]


@pytest.fixture
def local() -> list[str]:
    """The Beam options of the local runner as it is used by default."""
    return [LOCAL]
