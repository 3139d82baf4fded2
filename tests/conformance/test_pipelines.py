"""The corpus comes out the same however its steps are run, and each step runs the way it is meant to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import apache_beam as beam
import pytest

from tests.conformance import pipelines, pipelines_in_time, pipelines_of_parameters
from tests.conformance.cases import CASES, Case, run

assert pipelines
assert pipelines_in_time
assert pipelines_of_parameters

FORCED = ("general", "compiled", "bound")
TOGETHER = [case for case in CASES.values() if not case.is_streamed]
STREAMED = [case for case in CASES.values() if case.is_streamed]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_comes_out_right(case: Case, tmp_path: Path) -> None:
    _check([case], tmp_path, "auto")


@pytest.mark.parametrize("way", FORCED)
@pytest.mark.parametrize("case", STREAMED, ids=[case.name for case in STREAMED])
def test_a_stream_comes_out_right_each_way(case: Case, way: str, tmp_path: Path) -> None:
    _check([case], tmp_path, way)


@pytest.mark.parametrize("way", FORCED)
def test_all_cases_come_out_right_each_way(way: str, tmp_path: Path) -> None:
    _check(TOGETHER, tmp_path, way)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "general"])
def test_all_cases_come_out_right_on_two_workers(way: str, tmp_path: Path) -> None:
    _check(TOGETHER, tmp_path, way, "--workers=2")


def _check(cases: list[Case], folder: Path, way: str, *options: str) -> None:
    found, result = run(cases, folder, f"--execution_path={way}", *options)
    assert found == {case.name: sorted(map(repr, case.expected)) for case in cases}
    paths = result.paths()
    assert {(c.name, step): _path(paths, f"{c.name}/{step}") for c in cases for step in c.paths} == {
        (c.name, step): free if way in ("auto", free) else "general" for c in cases for step, free in c.paths.items()
    }
    if way == "general":
        assert set(paths.values()) <= {"general"}


def _path(paths: Mapping[str, str], step: str) -> str:
    """The way that a step takes, or the one step that it is made of."""
    (way,) = {path for name, path in paths.items() if name == step or name.startswith(f"{step}/")}
    return way


def test_counters_are_the_same_whichever_way_their_step_runs(tmp_path: Path) -> None:
    for way in ("auto", *FORCED):
        (tmp_path / way).mkdir()
        _, result = run([CASES["metrics"]], tmp_path / way, f"--execution_path={way}")
        found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("corpus"))
        (seen,), (sizes,) = found["counters"], found["distributions"]
        assert (seen.key.step, seen.committed, sizes.committed.sum) == ("metrics/count", 4, 10)
