"""A runner that runs nothing and says that all went well: what the harness must not be taken in by."""

from __future__ import annotations

from typing import Any

from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState


class Done(PipelineResult):
    """The result of a pipeline that was over before it began."""

    def __init__(self) -> None:
        super().__init__(PipelineState.DONE)

    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(self.state)


class NothingRunner(PipelineRunner):
    """Takes every pipeline, whatever it is asked for."""

    def __init__(self, is_drain: bool = False) -> None:
        super().__init__()

    def run_pipeline(self, pipeline: Any, options: Any) -> Done:
        return Done()
