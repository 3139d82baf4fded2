"""Parameters of Beam's whose value outlives the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.runners.local import LocalRunner

DURABLE: list[int] = []


class Finalized(beam.DoFn):
    """Notes each element when it is durable."""

    def process(self, element: int, end: Any = beam.DoFn.BundleFinalizerParam) -> Iterator[int]:
        end.register(lambda: DURABLE.append(element))
        yield element


def finalized(element: int, end: Any = beam.DoFn.BundleFinalizerParam) -> int:
    end.register(lambda: DURABLE.append(element))
    return element


@pytest.mark.parametrize("step", [beam.ParDo(Finalized()), beam.Map(finalized)])
@pytest.mark.parametrize(("way", "path"), [("auto", "bound"), ("general", "general")])
def test_finalizers_are_called_once_for_each_element_whichever_way_it_went(step: Any, way: str, path: str) -> None:
    DURABLE.clear()
    pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--execution_path={way}"]))
    pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | "step" >> step
    result = pipeline.run()
    result.wait_until_finish()
    assert sorted(DURABLE) == [1, 2, 3]
    assert result.paths()["step"] == path
