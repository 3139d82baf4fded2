"""Which Creates stay together where a job has several workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window

from sage.runners.engine.core import spec
from sage.runners.plan import plan_pipeline

Build = Callable[[Any], Any]


class Model(beam.DoFn):
    """Has something to set up."""

    def setup(self) -> None:
        self.factor = 2

    def process(self, element: Any) -> Iterable[Any]:
        yield element


class Batches(Model):
    """Works by the bundle."""

    def finish_bundle(self) -> None:
        return None


GATHERED: dict[str, Build] = {
    "batches": lambda made: made | beam.BatchElements(2, 3) | beam.Map(len),
    "batches over bundles": lambda made: made | beam.BatchElements(2, 3, max_batch_duration_secs=9),
    "the user's, by the bundle": lambda made: made | beam.ParDo(Batches()),
    "combined": lambda made: made | beam.Values() | beam.CombineGlobally(sum),
    "windowed, combined": lambda made: made | beam.WindowInto(window.FixedWindows(9)) | beam.Values() | beam.Distinct(),
    "grouped": lambda made: made | beam.GroupByKey() | beam.Map(len),
    "logged": lambda made: made | beam.LogElements(),
    "spread by the user": lambda made: made | beam.Reshuffle() | beam.Map(len),
}
SPREAD: dict[str, Build] = {
    "a function": lambda made: made | beam.Map(len),
    "a function in one of Beam's": lambda made: made | beam.MapTuple(lambda key, value: key),
    "a function for keys": lambda made: made | beam.GroupBy(lambda pair: pair[0]),
    "a function that may fail": lambda made: (made | beam.Map(len).with_exception_handling())[0],
    "a function, then combined": lambda made: made | beam.Map(len) | beam.CombineGlobally(sum),
    "a DoFn": lambda made: made | beam.ParDo(Model()),
    "batches for a model": lambda made: made | beam.BatchElements(2, 3) | beam.ParDo(Model()),
    "both": lambda made: (made | beam.BatchElements(2, 3), made | beam.Map(len)),
}


def partition(build: Build, create: beam.PTransform, **options: Any) -> str:
    pipeline = beam.Pipeline(options=PipelineOptions(**options))
    build(pipeline | create)
    (found,) = {
        stage.partition
        for stage in plan_pipeline(pipeline.to_runner_api(), 2).stages
        if isinstance(stage.root, spec.Redistribute) and stage.root.name.startswith("made/")
    }
    return found


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(("expected", "build"), [
    *(pytest.param("gather", build, id=name) for name, build in GATHERED.items()),
    *(pytest.param("spread", build, id=name) for name, build in SPREAD.items()),
])  # fmt: skip
def test_what_is_made_stays_together_where_there_is_no_work_to_share(
    expected: str, build: Build, checked: bool
) -> None:
    pairs = "made" >> beam.Create([("a", 1), ("b", 2)])
    assert partition(build, pairs, runtime_type_check=checked) == expected


def test_only_a_create_is_gathered() -> None:
    pipeline = beam.Pipeline()
    pipeline | "made" >> beam.Create([1, 2], reshuffle=False) | beam.Reshuffle() | beam.BatchElements(2, 3)
    (spread,) = (s for s in plan_pipeline(pipeline.to_runner_api(), 2).stages if isinstance(s.root, spec.Redistribute))
    assert spread.partition == "spread"
