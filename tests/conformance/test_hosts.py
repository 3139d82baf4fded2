"""The same pipelines on every host: what the engine means does not depend on where it runs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import StepError, UnsupportedFeature, WorkerLost
from sage.handle import JobHandle, observe_jobs
from sage.jobs import etl, stdlib_report
from sage.jobs.cli import main
from sage.jobs.etl.sample import write_sample
from sage.runner_names import RUNNERS
from tests.conformance.branches import BRANCHES, EXPECTED, LINES, Branch, word_count

hosts = pytest.mark.parametrize(
    "host",
    [
        "local",
        pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow]),
        pytest.param("flink", marks=[pytest.mark.flink, pytest.mark.slow]),
    ],
)


def runner_of(host: str) -> Any:
    module, _, name = RUNNERS[host].rpartition(".")
    return getattr(importlib.import_module(module), name)()


@pytest.fixture(scope="session")
def started() -> Iterator[dict[str, Any]]:
    """What is started once for all tests, and the result of the one large pipeline on each host."""
    os.environ.setdefault("JVM_ARGS", "-Xmx768m")
    known: dict[str, Any] = {}
    yield known
    if "ray" in known:
        import ray

        ray.shutdown()


@pytest.fixture
def ready(host: str, started: dict[str, Any]) -> str:
    """The host, bounded to what a small machine has."""
    if host == "ray" and "ray" not in started:
        import ray

        ray.init(num_cpus=2, object_store_memory=200 << 20, include_dashboard=False, logging_level="ERROR")
        started["ray"] = True
    return host


@pytest.fixture
def ran(ready: str, started: dict[str, Any], tmp_path: Path) -> tuple[dict[str, list[Any]], Any]:
    """What the branches put out on the host, and the result of the job; run once."""
    place = f"result on {ready}"
    if place not in started:
        (tmp_path / "text").write_text(LINES, encoding="utf-8")
        p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
        all_branches = {"word count": word_count(str(tmp_path / "text")), **BRANCHES}
        told = [p | Branch(name, build) for name, build in all_branches.items()]
        told | beam.Flatten() | beam.io.WriteToText(str(tmp_path / "out"), shard_name_template="")
        result = p.run()
        result.wait_until_finish()
        found: dict[str, list[Any]] = {name: [] for name in EXPECTED}
        for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines():
            name, value = ast.literal_eval(line)
            found[name].append(value)
        started[place] = found, result
    return started[place]


@hosts
@pytest.mark.parametrize("branch", EXPECTED)
def test_a_part_of_the_model_means_the_same_on_every_host(ran: Any, branch: str) -> None:
    assert sorted(ran[0][branch]) == EXPECTED[branch]


@hosts
def test_metrics_progress_and_paths_come_from_all_workers(ran: Any) -> None:
    _, result = ran
    assert result.state == "DONE"
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("hosts"))
    (words,) = found["counters"]
    (lengths,) = found["distributions"]
    assert (words.key.step, words.committed) == ("word count/split", 14)
    assert (lengths.committed.count, lengths.committed.min, lengths.committed.max) == (14, 2, 8)
    progress = {step.name: step for step in result.progress()}
    assert (progress["word count/split"].elements_in, progress["word count/split"].elements_out) == (3, 14)
    assert {step.state for step in progress.values()} == {"done"}
    assert len(progress) == len(result.progress())
    assert result.paths()["word count/split"] in ("compiled", "bound", "general")
    vitals = result.vitals()
    assert vitals is None or vitals.restarts == 0


def invert(value: int) -> float:
    return 1 / value


@hosts
def test_a_failing_function_is_named_with_its_step_and_lines(ready: str) -> None:
    p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
    p | beam.Create([1, 0]) | beam.Reshuffle() | "invert" >> beam.Map(invert)
    with pytest.raises(StepError) as caught:
        p.run().wait_until_finish()
    error = caught.value
    assert error.step == "invert"
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.raised_at is not None
    assert error.raised_at.text == "return 1 / value"
    assert error.applied_at is not None
    assert error.applied_at.file == __file__


@hosts
def test_the_command_tells_a_failure(ready: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import apache_beam as beam\n"
        "with beam.Pipeline() as p:\n"
        "    p | beam.Create([1, 0]) | 'invert' >> beam.Map(lambda value: 1 / value)\n"
    )
    assert main(["run", str(script), "--runner", ready]) == 1
    told = capfd.readouterr().err
    assert "error: step 'invert' failed\n\n  ZeroDivisionError: division by zero\n" in told
    assert f"raised at {script}:3" in told


def die(element: Any) -> None:
    os._exit(9)


@hosts
def test_a_worker_that_dies_ends_the_job_and_says_so(ready: str) -> None:
    p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
    p | beam.Impulse() | beam.Map(die)
    with pytest.raises(WorkerLost) as caught:
        p.run()
    assert caught.value.retryable


class Endless(beam.DoFn):
    """Says by a file that it is at work, and is never done."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def process(self, element: Any) -> None:
        self.sign.touch()
        while True:
            time.sleep(0.05)


@hosts
def test_a_job_can_be_cancelled_while_a_function_is_at_work(ready: str, tmp_path: Path) -> None:
    jobs: list[JobHandle] = []
    sign = tmp_path / "at work"

    def cancel() -> None:
        while not sign.exists():
            time.sleep(0.05)
        jobs[0].cancel()

    p = beam.Pipeline(runner=runner_of(ready), options=PipelineOptions(["--workers=2"]))
    p | beam.Impulse() | beam.ParDo(Endless(sign))
    with observe_jobs(jobs.append):
        threading.Thread(target=cancel, daemon=True).start()
        assert p.run().state == "CANCELLED"


@hosts
def test_what_cannot_be_there_is_refused_before_the_host_is_started(host: str) -> None:
    """No actor and no Java process: the refusal takes milliseconds. Local has streams."""
    from apache_beam.testing import test_stream

    p = beam.Pipeline(runner=runner_of(host))
    p | "events" >> test_stream.TestStream().add_elements([1]).advance_watermark_to_infinity() | beam.Map(abs)
    if host == "local":
        assert p.run().state == "DONE"
        return
    with pytest.raises(UnsupportedFeature, match=r"step 'events': TestStream \(available on: local\)"):
        p.run()


@hosts
def test_the_standard_library_report_is_the_same_bytes(ready: str, tmp_path: Path) -> None:
    source = os.path.dirname(importlib.import_module("json").__file__ or "")
    for name in {"local", ready}:
        stdlib_report.main(
            ["--source", source, "--output", str(tmp_path / name), "--workers=2", f"--runner={RUNNERS[name]}"]
        )
    assert _files(tmp_path / ready) == _files(tmp_path / "local")


@hosts
def test_the_etl_job_writes_the_same(ready: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sample(str(data), rows=300)
    inputs = ["--input", f"orders={data}/orders-*.csv", "--input", f"customers={data}/customers.jsonl"]
    for name in {"local", ready}:
        etl.main([*inputs, "--output", str(tmp_path / name), "--workers=2", f"--runner={RUNNERS[name]}"])
    assert _files(tmp_path / ready) == _files(tmp_path / "local")


def _files(folder: Path) -> dict[str, Any]:
    found = {str(path.relative_to(folder)): _content(path) for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def _content(path: Path) -> Any:
    """A file's bytes; of a database, whose pages tell in which order rows came, what is in it."""
    if path.suffix != ".sqlite":
        return path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())
