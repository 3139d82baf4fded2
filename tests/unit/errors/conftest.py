from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import StepError
from sage.runners.local import LocalRunner

Build = Callable[[beam.Pipeline], Any]


@pytest.fixture
def run() -> Callable[..., None]:
    """Builds a pipeline and runs it to its end."""

    def run(build: Build, *flags: str) -> None:
        with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(list(flags))) as p:
            build(p)

    return run


@pytest.fixture(params=["1 worker", "1 worker, general", "2 workers"])
def failing(request: pytest.FixtureRequest, run: Callable[..., None]) -> Callable[..., StepError]:
    """Runs a pipeline that fails, in each way there is, and gives the one error that comes of it."""
    flags = {
        "1 worker": [],
        "1 worker, general": ["--execution_path=general"],
        "2 workers": ["--workers=2"],
    }[request.param]

    def failing(build: Build, step: str, cause: type[BaseException], match: str | None = None) -> StepError:
        with pytest.raises(StepError, match=match) as caught:
            run(build, *flags)
        error = caught.value
        assert error.step == step
        assert isinstance(error.cause, cause)
        assert error.__cause__ is error.cause
        assert error.applied_at is not None
        assert error.applied_at.file == inspect.getsourcefile(build)
        return error

    return failing
