"""What several worker processes owe to the driver: the error that ended the job, a stop when asked, no orphans."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import StepError, WorkerLost
from sage.handle import StepProgress
from sage.runners.driver import result as results
from sage.runners.local import LocalRunner
from tests.patience import patience

WORKERS = 3


def pipeline(workers: int = WORKERS) -> beam.Pipeline:
    return beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--workers={workers}"]))


def spread(p: beam.Pipeline, count: int = 3000) -> Any:
    return p | beam.Create(range(count), reshuffle=False) | beam.Reshuffle()


class NotPortable(Exception):
    """Has what no pickler takes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def refuse(number: int) -> int:
    if number == 1500:
        raise NotPortable("number 1500")
    return number


def test_an_error_that_cannot_travel_comes_as_its_text_with_the_workers_lines() -> None:
    p = pipeline()
    spread(p) | "refuse" >> beam.Map(refuse) | "more" >> beam.Reshuffle() | beam.Map(abs)
    with pytest.raises(StepError, match="NotPortable: number 1500") as caught:
        p.run()
    assert caught.value.step == "refuse"
    assert 'raise NotPortable("number 1500")' in str(caught.value.__cause__.__cause__)


def fail_late(number: int) -> tuple[int, bytes]:
    if number == 2999:
        raise ValueError("the cause")
    return number, b"x" * 20_000


@pytest.mark.parametrize("_", range(4))
def test_the_error_is_the_steps_and_not_that_of_a_peer_that_finds_it_gone(_: int) -> None:
    p = pipeline()
    many = spread(p) | "fail" >> beam.Map(fail_late) | "again" >> beam.Reshuffle() | beam.GroupByKey()
    many | beam.Map(lambda pair: time.sleep(0.0001))
    with pytest.raises(StepError, match="the cause"):
        p.run()


def die(number: int) -> int:
    if number == 1000:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_is_killed_is_told_as_such() -> None:
    p = pipeline()
    spread(p) | "die" >> beam.Map(die) | "again" >> beam.Reshuffle() | beam.Map(abs)
    with pytest.raises(WorkerLost, match=r"worker \d \(process \d+\) ended without a report: it was killed"):
        p.run()


class Slow(beam.DoFn):
    """Runs for a minute, in one call."""

    def process(self, element: Any) -> Iterator[int]:
        for number in range(60_000):
            time.sleep(0.001)
            yield number


def test_progress_comes_out_of_one_long_call_and_a_cancelled_job_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StepProgress] = []
    run = results.JobResult.run

    def watched(self: results.JobResult) -> None:
        threading.Thread(target=watch, args=(self,), daemon=True).start()
        run(self)

    def watch(job: results.JobResult) -> None:
        deadline = time.monotonic() + patience(30)
        while time.monotonic() < deadline:
            seen[:] = [step for step in job.progress() if step.name == "slow" and step.elements_in == 1]
            if seen:
                break
            time.sleep(0.05)
        job.cancel()

    monkeypatch.setattr(results.JobResult, "run", watched)
    p = pipeline()
    p | beam.Impulse() | "slow" >> beam.ParDo(Slow()) | beam.Reshuffle() | beam.Map(abs)
    started = time.monotonic()
    result = p.run()
    assert result.state == "CANCELLED"
    assert [step.state for step in seen] == ["running"], "progress of a step that is at work in one call"
    assert time.monotonic() - started < patience(40)


class Measured(beam.DoFn):
    """Counts in every way there is."""

    def process(self, number: int) -> Iterator[int]:
        Metrics.counter("w", "count").inc()
        Metrics.distribution("w", "numbers").update(number)
        Metrics.gauge("w", "last").set(number)
        Metrics.string_set("w", "thirds").add(str(number % 3))
        yield number


def test_metrics_of_all_workers_are_one() -> None:
    p = pipeline()
    spread(p) | "measured" >> beam.ParDo(Measured())
    found = p.run().metrics().query(beam.metrics.MetricsFilter().with_namespace("w"))
    (count,), (numbers,), (last,), (thirds,) = (
        found[kind] for kind in ("counters", "distributions", "gauges", "string_sets")
    )
    assert count.committed == 3000
    told = numbers.committed
    assert (told.count, told.sum, told.min, told.max) == (3000, sum(range(3000)), 0, 2999)
    assert 0 <= last.committed.value < 3000
    assert set(thirds.committed) == {"0", "1", "2"}


class Noted(beam.DoFn):
    """Says what is done with it."""

    def setup(self) -> None:
        print("setup")

    def process(self, number: int) -> None:
        print(number)

    def finish_bundle(self) -> None:
        print("end of bundle")

    def teardown(self) -> None:
        print("teardown")


def test_a_few_elements_are_one_bundle_and_nothing_is_set_up_in_vain(capsys: pytest.CaptureFixture[str]) -> None:
    p = pipeline(2)
    p | beam.Create([1, 2, 3]) | beam.ParDo(Noted())
    p.run()
    assert capsys.readouterr().out.split("\n") == ["setup", "1", "2", "3", "end of bundle", "teardown", ""]


class Spoken(UserWarning):
    """Of no module that a worker could import by itself."""


def speak(number: int) -> int:
    print(f"printed {number}")
    print(f"é {number}", file=sys.stderr, end="")
    logging.getLogger("spoken").info("logged %s", number)
    logging.getLogger("silent").info("not wanted")
    warnings.warn("warned", Spoken, stacklevel=2)
    return number


def test_what_workers_print_log_and_warn_of_comes_out_at_the_driver(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    p = pipeline(2)
    p | beam.Create([1, 2]) | beam.Map(speak)
    with caplog.at_level(logging.INFO, "spoken"), pytest.warns(Spoken, match="warned"):
        p.run()
    told = capsys.readouterr()
    assert sorted(told.out.splitlines()) == ["printed 1", "printed 2"]
    assert sorted(told.err.replace("é", " é").split()) == ["1", "2", "é", "é"]
    logged = [record for record in caplog.records if record.name in ("spoken", "silent")]
    assert sorted(record.getMessage() for record in logged) == ["logged 1", "logged 2"]
    assert os.getpid() not in {record.process for record in logged}


def test_words_of_a_worker_that_fails_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    p = pipeline(2)
    p | beam.Create([1]) | beam.Map(lambda x: (print("before", x), 1 // 0))
    with pytest.raises(StepError, match="ZeroDivisionError"):
        p.run()
    assert "before 1" in capsys.readouterr().out


def test_a_filter_that_makes_an_error_of_a_warning_holds_for_workers() -> None:
    p = pipeline(2)
    p | beam.Create([1, 2]) | beam.Map(speak)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Spoken)
        with pytest.raises(Spoken, match="warned"):
            p.run()


def note_streams(path: str) -> None:
    child = os.fork()
    Path(path).with_suffix(".here" if child else ".child").write_text(str(sys.stdout is sys.__stdout__))
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def test_a_process_that_user_code_forks_speaks_for_itself(tmp_path: Path) -> None:
    p = pipeline(2)
    p | beam.Create([str(tmp_path / "direct")]) | beam.Map(note_streams)
    p.run()
    assert {path.suffix: path.read_text() for path in tmp_path.iterdir()} == {".here": "False", ".child": "True"}


def test_workers_end_when_their_driver_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import os, sys, time\n"
        "import apache_beam as beam\n"
        "from apache_beam.options.pipeline_options import PipelineOptions\n"
        "from sage.runners.local import LocalRunner\n"
        "def busy(element):\n"
        f"    with open({str(tmp_path / 'pid')!r}, 'w') as f:\n"
        "        f.write(f'{os.getpid()} ')\n"
        "    for number in range(60_000):\n"
        "        time.sleep(0.001)\n"
        "        yield number\n"
        "with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(['--workers=2'])) as p:\n"
        "    p | beam.Impulse() | beam.FlatMap(busy) | beam.Reshuffle() | beam.Map(abs)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        pid = _written(tmp_path / "pid")
    finally:
        driver.kill()
        driver.wait()
    deadline = time.monotonic() + patience(15)
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _written(path: Path) -> int:
    deadline = time.monotonic() + patience(60)
    while time.monotonic() < deadline:
        if path.exists() and path.read_text(encoding="utf-8").endswith(" "):
            return int(path.read_text(encoding="utf-8"))
        time.sleep(0.05)
    raise TimeoutError("no worker began")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
