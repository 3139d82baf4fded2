"""Jobs that are stopped, resumed, rescaled, drained and begun again put out what one uninterrupted run does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import CheckpointError, StepError
from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from tests.patience import patience
from tests.recovery.streams import SHAPES, Committed, Numbers, build, committed

UPTO = 6_000


def start(build_it: Callable[[Any], None], **options: Any) -> Any:
    pipeline = beam.Pipeline(LocalRunner(), options=PipelineOptions([], **options))
    build_it(pipeline)
    return pipeline.run()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[str]]:
    """What one run without checkpoints commits, for each shape."""
    found = {}
    for shape in SHAPES:
        folder = tmp_path_factory.mktemp(shape)
        start(lambda p, shape=shape, folder=folder: build(p, shape, UPTO, 0, folder)).wait_until_finish()
        found[shape] = committed(folder)
        assert found[shape]
    return found


def wait_for(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + patience(30)
    while not (found := done()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize(("first", "then"), [(1, 1), (2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_job_stopped_with_a_savepoint_goes_on_at_any_number_of_workers(
    shape: str, first: int, then: int, tmp_path: Path, out: Path, expected: dict[str, Counter[str]]
) -> None:
    kept = {"checkpoint_dir": str(tmp_path / "kept"), "checkpoint_interval": "50ms"}
    job = start(lambda p: build(p, shape, UPTO, 4_000, out), workers=first, **kept)
    wait_for(lambda: job.vitals().checkpoint)
    path = job.stop("half-way")
    job.wait_until_finish()
    assert "half-way" in path
    before = committed(out)
    assert before != expected[shape]

    start(lambda p: build(p, shape, UPTO, 0, out), workers=then, **kept).wait_until_finish()
    assert committed(out) == expected[shape]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_that_raises_once_is_begun_again_from_the_last_checkpoint(
    workers: int, tmp_path: Path, out: Path, expected: dict[str, Counter[str]]
) -> None:
    flag = tmp_path / "raised"

    def once(pair: Any) -> Any:
        if pair[1] == UPTO // 2 and not flag.exists():
            flag.touch()
            raise ValueError("for once")
        return pair

    def with_failure(pipeline: Any) -> None:
        numbers = pipeline | ReadStream(Numbers(UPTO, 8_000)) | "once" >> beam.Map(once)
        SHAPES["sums"](numbers) | beam.ParDo(Committed(str(out)))

    job = start(
        with_failure, workers=workers, checkpoint_dir=str(tmp_path / "kept"), checkpoint_interval="50ms",
        restart="fixed-delay:2:10ms",
    )  # fmt: skip
    job.wait_until_finish()
    assert flag.exists()
    assert job.vitals().restarts == 1
    assert committed(out) == expected["sums"]


def test_a_step_that_always_raises_ends_the_job_when_the_policy_says_so(tmp_path: Path, out: Path) -> None:
    def never(pair: Any) -> Any:
        raise ValueError("each time")

    job = start(
        lambda p: p | ReadStream(Numbers(10)) | "never" >> beam.Map(never),
        checkpoint_dir=str(tmp_path / "kept"), restart="fixed-delay:2:1ms",
    )  # fmt: skip
    with pytest.raises(StepError, match="never"):
        job.wait_until_finish()
    assert job.vitals().restarts == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_checkpoint_that_was_changed_ends_the_job_whatever_the_policy_says(
    workers: int, tmp_path: Path, out: Path
) -> None:
    kept = {"checkpoint_dir": str(tmp_path / "kept"), "checkpoint_interval": "50ms", "workers": workers}
    job = start(lambda p: build(p, "sums", UPTO, 4_000, out), **kept)
    wait_for(lambda: job.vitals().checkpoint)
    savepoint = job.stop("half-way")
    job.wait_until_finish()
    (part, *_) = sorted(Path(savepoint).rglob("*.bin"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    job = start(lambda p: build(p, "sums", UPTO, 0, out), restart="exponential:1ms:1s", **kept)
    with pytest.raises(CheckpointError, match=r"\.bin is not what was written"):
        job.wait_until_finish(int(patience(30) * 1_000))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_fires_what_is_open_and_ends_the_job(workers: int, tmp_path: Path, out: Path) -> None:
    job = start(
        lambda p: build(p, "sums", 1_000_000, 2_000, out), workers=workers, checkpoint_dir=str(tmp_path / "kept"),
        checkpoint_interval="50ms",
    )  # fmt: skip
    wait_for(lambda: job.vitals().checkpoint)
    job.drain()
    assert job.wait_until_finish() == "DONE"
    rows = [row.strip("[]").split(", ") for row in committed(out).elements()]
    counts = Counter(int(digit) for digit, count, _ in rows for _ in range(int(count)))
    # Nothing is between the numbers that were read: each split gave a run of them from 0 on.
    assert max(counts.values()) - min(counts.values()) <= 3


def test_a_savepoint_leaves_the_job_running_and_can_be_begun_from(
    tmp_path: Path, out: Path, expected: dict[str, Counter[str]]
) -> None:
    job = start(
        lambda p: build(p, "timers", UPTO, 4_000, out), checkpoint_dir=str(tmp_path / "kept"),
        checkpoint_interval="10s",
    )  # fmt: skip
    wait_for(lambda: job.vitals().watermark_ms)
    path = job.savepoint("one")
    with pytest.raises(CheckpointError, match="one"):
        job.savepoint("one")
    job.wait_until_finish()
    assert committed(out) == expected["timers"]

    again = tmp_path / "again"
    again.mkdir()
    start(lambda p: build(p, "timers", UPTO, 0, again), restore_from=path, job_name="other").wait_until_finish()
    assert committed(again) <= expected["timers"]
    assert committed(again)


def test_what_needs_a_place_for_checkpoints_says_so(out: Path) -> None:
    job = start(lambda p: build(p, "sums", UPTO, 2_000, out))
    wait_for(lambda: job.vitals().watermark_ms)
    with pytest.raises(CheckpointError, match="--checkpoint_dir"):
        job.savepoint("none")
    job.cancel()
    assert job.wait_until_finish() == "CANCELLED"


def counted(pair: Any) -> Any:
    Metrics.counter("mine", "seen").inc()
    return pair


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_running_job_tells_of_itself(workers: int) -> None:
    def seen() -> int:
        return sum(cell.result for cell in job.metrics().query()["counters"])

    job = start(lambda p: p | ReadStream(Numbers(1_000_000, 1_000)) | "see" >> beam.Map(counted), workers=workers)
    assert seen() >= 0  # also before there is a worker
    wait_for(seen)
    # The numbers of splits have been told to all who read them; that they are read has not ended.
    wait_for(lambda: job.vitals().watermark_ms)  # every worker has said something
    assert {step.name: step.state for step in job.progress()}["see"] == "running"
    job.cancel()
    assert job.wait_until_finish() == "CANCELLED"
    assert seen() > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_was_stopped_says_where(workers: int, tmp_path: Path, out: Path) -> None:
    kept = {"checkpoint_dir": str(tmp_path / "kept"), "checkpoint_interval": "50ms"}
    job = start(lambda p: build(p, "sums", 1_000_000, 2_000, out), workers=workers, **kept)
    wait_for(lambda: job.vitals().checkpoint)
    assert job.durable
    assert job.stopped_at is None
    path = job.stop()
    assert job.wait_until_finish() == "DONE"
    assert job.stopped_at == path
