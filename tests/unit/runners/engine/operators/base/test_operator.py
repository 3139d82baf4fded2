"""What a mere function may ask for that has to be set up, and is torn down."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from sage.runners.local import LocalRunner


class Context:
    """Counts those that are open."""

    live = 0

    def __init__(self, value: str) -> None:
        self.value = value

    def __enter__(self) -> str:
        Context.live += 1
        return self.value

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        Context.live -= 1


def within(
    number: int,
    bundle: Any = beam.DoFn.BundleContextParam(Context, args=("bundle",)),
    life: Any = beam.DoFn.SetupContextParam(Context, args=("life",)),
) -> tuple[int, str, str, bool]:
    return number, bundle, life, Context.live >= 2


@pytest.mark.parametrize("way", ["auto", "general"])
def test_contexts_of_a_function_are_entered_and_left(way: str) -> None:
    with beam.Pipeline(LocalRunner(), options=PipelineOptions([f"--execution_path={way}"])) as pipeline:
        found = pipeline | beam.Create([1, 2]) | beam.Map(within)
        assert_that(found, equal_to([(1, "bundle", "life", True), (2, "bundle", "life", True)]))
    assert Context.live == 0
