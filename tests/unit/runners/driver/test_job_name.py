"""A job that is begun again has the name it had."""

from __future__ import annotations

import sys

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.runners.driver.base_runner import job_name


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("jobs/clicks.py", "clicks"),
        ("pipelines/clicks.yaml", "clicks"),
        ("shop.jobs.clicks", "clicks"),  # as `sage run` has it
        ("shop/clicks/__main__.py", "clicks"),  # as `python -m shop.clicks` has it
        ("bin/tool-1.2", "sage-job"),
        ("-c", "sage-job"),
        ("", "sage-job"),
    ],
)
def test_a_job_without_a_name_is_called_after_its_program(
    program: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert job_name(PipelineOptions([])) == name
    assert job_name(PipelineOptions(["--job_name=given"])) == "given"
