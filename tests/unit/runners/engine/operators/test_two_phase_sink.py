"""What sinks are given, and when they are asked for what they prepared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import CheckpointError, StepError
from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from sage.transactions import BatchSink, Deferred, SinkContext, TransactionalDoFn
from tests.patience import patience
from tests.recovery.streams import SPLITS, Numbers

TAKEN: list[list[int]] = []


class Taking(BatchSink):
    def __init__(self, refused: int | None = None) -> None:
        self.refused = refused

    def setup(self) -> None:
        TAKEN.clear()

    def write_batch(self, elements: list[int]) -> None:
        if self.refused in elements:
            raise ValueError(f"{self.refused} is not taken")
        TAKEN.append(elements)


class Asking(BatchSink, TransactionalDoFn):
    """Notes in a file what it commits, and in which thread it was asked for it.

    Args:
        notes: the file.
        refusals: how often it cannot be asked (count).
    """

    def __init__(self, notes: str, refusals: int = 0) -> None:
        self.notes, self.refusals = notes, refusals

    def recover(self, context: SinkContext, prepared: Sequence[Any]) -> None:
        self.rows: list[int] = []
        self.mine = threading.get_ident()

    def write_batch(self, elements: list[int]) -> None:
        self.rows += elements

    def prepare(self, epoch: int) -> Deferred | None:
        rows, self.rows = self.rows, []
        return Deferred(lambda: self.asked(rows)) if rows else None

    def asked(self, rows: list[int]) -> list[Any]:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("nobody answers")
        return [rows, "mine" if threading.get_ident() == self.mine else "beside"]

    def commit(self, handle: list[Any]) -> None:
        assert not isinstance(handle, Deferred)
        with open(self.notes, "a") as notes:
            notes.write(f"{sum(handle[0])} {handle[1]}\n")


class Finishing(Asking):
    """Leaves its commits to be done later, and notes in which thread they were.

    Args:
        notes: the file.
        refusals: how often a commit fails (count).
    """

    def recover(self, context: SinkContext, prepared: Sequence[Any]) -> None:
        super().recover(context, prepared)
        for rows in prepared:  # where the sink's own thread was the first to ask, the job has begun again
            super().commit([rows, "mine"])

    def prepare(self, epoch: int) -> list[int] | None:
        rows, self.rows = self.rows, []
        return rows or None

    def commit(self, handle: list[int]) -> Deferred:
        return Deferred(lambda: super(Finishing, self).commit(self.asked(handle)))


def doubled(n: int, rest_s: float) -> int:
    time.sleep(rest_s)
    return 2 * n


def run(sink: beam.DoFn, *options: str, rest_s: float = 0.0) -> Any:
    pipeline = beam.Pipeline(LocalRunner(), options=PipelineOptions(options))
    numbers = pipeline | beam.Create(range(1_000)) | "Doubled" >> beam.Map(doubled, rest_s)
    numbers | "Take" >> beam.ParDo(sink)
    result = pipeline.run()
    result.wait_until_finish()
    return result


@pytest.mark.parametrize("path", ["auto", "general"])
def test_a_sink_that_only_takes_gets_all_in_order(path: str) -> None:
    result = run(Taking(), f"--execution_path={path}")
    assert [n for some in TAKEN for n in some] == list(range(0, 2_000, 2))
    assert result.paths()["Take"] == ("compiled" if path == "auto" else "general")
    assert (max(map(len, TAKEN)) > 1) == (path == "auto")


def test_what_a_sink_does_not_take_names_its_step() -> None:
    with pytest.raises(StepError, match=r"998 is not taken \[while running 'Take'\]"):
        run(Taking(refused=998))


def test_the_last_elements_are_taken_by_the_step_too() -> None:
    with pytest.raises(StepError, match=r"1998 is not taken \[while running 'Take'\]"):
        run(Taking(refused=1_998))


@pytest.fixture
def noted(tmp_path: Path) -> Callable[..., list[str]]:
    def noted(refusals: int = 0, *options: str, rest_s: float = 0.0) -> list[str]:
        notes = tmp_path / "notes"
        run(Asking(str(notes), refusals), *options, rest_s=rest_s)
        return notes.read_text().splitlines()

    return noted


def test_a_handle_that_takes_asking_is_asked_for_beside_the_elements(
    noted: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert noted(0, f"--checkpoint_dir={tmp_path / 'checkpoints'}") == ["999000 beside"]


def test_the_last_checkpoint_tells_which_sink_nobody_answers(
    noted: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"last checkpoint failed(.|\n)*answers \[while running 'Take'\]"):
        noted(1, f"--checkpoint_dir={tmp_path / 'checkpoints'}")


def test_what_a_checkpoint_could_not_be_told_is_asked_for_again_at_the_next(
    noted: Callable[..., list[str]], tmp_path: Path
) -> None:
    options = f"--checkpoint_dir={tmp_path / 'checkpoints'}", "--checkpoint_interval=50ms"
    assert noted(1, *options, rest_s=0.001) == ["999000 mine"]


def test_without_a_checkpoint_it_is_asked_for_when_it_is_committed(noted: Callable[..., list[str]]) -> None:
    assert noted() == ["999000 mine"]


def test_what_cannot_be_asked_for_names_the_sink(noted: Callable[..., list[str]]) -> None:
    with pytest.raises(StepError, match=r"nobody answers \[while running 'Take'\]"):
        noted(1)


def finished(folder: Path, refusals: int) -> list[list[str]]:
    """What `Finishing` notes, by checkpoint: a sum and a thread."""
    options = PipelineOptions(
        [f"--checkpoint_dir={folder / 'checkpoints'}", "--checkpoint_interval=200ms"], streaming=True
    )
    pipeline = beam.Pipeline(LocalRunner(), options=options)
    numbers = pipeline | ReadStream(Numbers(41, rate=40)) | beam.Values()
    numbers | "Take" >> beam.ParDo(Finishing(str(folder / "notes"), refusals))
    pipeline.run().wait_until_finish()
    return [line.split() for line in (folder / "notes").read_text().splitlines()]


def test_a_commit_may_be_done_beside_the_next_epoch_and_the_last_is_done_before_the_end(tmp_path: Path) -> None:
    notes = finished(tmp_path, 0)
    assert sum(int(part) for part, _ in notes) == len(SPLITS) * sum(range(41))
    assert notes[0][1] == "beside"
    assert notes[-1][1] == "mine"


def test_a_commit_that_failed_beside_the_next_epoch_is_done_before_that_is_prepared(tmp_path: Path) -> None:
    notes = finished(tmp_path, 1)
    assert sum(int(part) for part, _ in notes) == len(SPLITS) * sum(range(41))
    assert notes[0][1] == "mine"


def test_a_commit_that_cannot_be_done_names_the_sink(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"nobody answers \[while running 'Take'\]"):
        finished(tmp_path, 2)


def test_who_asks_for_what_is_asked_for_already_waits_for_the_answer() -> None:
    asked, answer = threading.Event(), threading.Event()

    def ask() -> str:
        assert not asked.is_set()
        asked.set()
        assert answer.wait(patience(10))
        return "handle"

    later = Deferred(ask)
    other = threading.Thread(target=later.result)
    other.start()
    assert asked.wait(patience(10))
    threading.Timer(0.05, answer.set).start()
    assert later.result() == "handle"
    other.join()


def test_a_handle_is_asked_for_once_and_again_after_a_failure() -> None:
    answers = [ConnectionError("away"), "handle", "another"]

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    later = Deferred(ask)
    with pytest.raises(ConnectionError):
        later.result()
    assert later.failed
    assert [later.result(), Deferred.resolve(later), Deferred.resolve("plain")] == ["handle", "handle", "plain"]
    assert not later.failed
