from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from sage.runners.local import LocalRunner
from tests.postgres.fixtures import postgres, postgres_server

__all__ = ["outputs_are", "postgres", "postgres_server"]


@pytest.fixture
def outputs_are() -> Callable[[beam.PTransform, list[Any], list[Any]], None]:
    """Runs a reader and compares what it found good and what it refused, as (source, line, reason)."""

    def run(reader: beam.PTransform, good: list[Any], dead: list[Any]) -> None:
        with beam.Pipeline(runner=LocalRunner()) as pipeline:
            result = pipeline | reader
            places = result.dead | beam.Map(lambda letter: (letter.source, letter.line, letter.reason))
            assert_that(result.good, equal_to(good), label="good")
            assert_that(places, equal_to(dead), label="dead")

    return run
