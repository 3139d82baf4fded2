"""Which pipelines a job's code builds and runs, on whatever runner."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sage.errors import ConfigError

__all__ = ["PipelineCount", "counting_pipelines", "only_on"]


@dataclass
class PipelineCount:
    """The pipelines of a job's code so far.

    Attributes:
        built: how many were made (count).
        run: how many of them were run (count).
    """

    built: int = 0
    run: int = 0


@contextlib.contextmanager
def counting_pipelines() -> Iterator[PipelineCount]:
    """Counts the pipelines that are built and run in this process while the block is open."""
    from apache_beam.pipeline import Pipeline

    seen = PipelineCount()
    init, run = Pipeline.__init__, Pipeline.run

    @functools.wraps(init)
    def counted_init(self: Pipeline, *args: Any, **kwargs: Any) -> None:
        seen.built += 1
        init(self, *args, **kwargs)

    @functools.wraps(run)
    def counted_run(self: Pipeline, *args: Any, **kwargs: Any) -> Any:
        seen.run += 1
        return run(self, *args, **kwargs)

    Pipeline.__init__, Pipeline.run = counted_init, counted_run
    try:
        yield seen
    finally:
        Pipeline.__init__, Pipeline.run = init, run


@contextlib.contextmanager
def only_on(name: str, runner: str) -> Iterator[None]:
    """Refuses pipelines whose code names another runner than the command line, while the block is open.

    Args:
        name: the runner as the command line has it.
        runner: the same as Beam has it.

    Raises:
        ConfigError: from the constructor of a pipeline for another runner; the message names both.
    """
    from apache_beam.pipeline import Pipeline
    from apache_beam.runners.runner import create_runner

    init = Pipeline.__init__

    @functools.wraps(init)
    def checked_init(self: Pipeline, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        wanted = type(create_runner(runner))
        if type(self.runner) is not wanted:
            raise ConfigError(
                f"--runner {name} asks for {wanted.__name__}, and the job's code names {type(self.runner).__name__}: "
                "take the runner out of the code (`beam.Pipeline()` gets the one of --runner), or leave --runner out"
            )

    Pipeline.__init__ = checked_init
    try:
        yield
    finally:
        Pipeline.__init__ = init
