"""Which failures a job begins again after, and what it says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sage.errors import CheckpointError, ConfigError, StepError, WorkerLost
from sage.options import SageOptions
from sage.runners.deployment.recovery import AttemptCheckpoints, RecoveryOptions
from sage.runners.driver.attempts import Attempts
from sage.runners.engine.checkpoint.protocol import Kind, Receipt
from sage.runners.engine.core.spec import Plan
from sage.runners.state.manifests import Manifest


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (StepError("Parse", ValueError("a bad row")), 3),
        (WorkerLost("worker 1 ended without a report"), 3),
        (CheckpointError("three checkpoints in a row failed"), 3),
        (CheckpointError.damaged("it is not what was written"), 1),
        (StepError("Write", ConfigError("the folder has files of an earlier run")), 1),
        (KeyError("not of the job"), 1),
    ],
)
def test_a_job_begins_again_where_that_could_help(error: Exception, times: int) -> None:
    called = 0

    def attempt(checkpoints: AttemptCheckpoints) -> None:
        nonlocal called
        called += 1
        raise error

    attempts = Attempts(RecoveryOptions("job", restart="fixed-delay:2:1ms"))
    with pytest.raises(type(error)):
        attempts.run(attempt)
    assert called == times
    assert attempts.restarts == times - 1


def test_a_job_that_is_to_stop_does_not_begin_again() -> None:
    attempts = Attempts(RecoveryOptions("job", restart="fixed-delay:2:1ms"))

    def attempt(checkpoints: AttemptCheckpoints) -> None:
        attempts.stop()
        raise WorkerLost("worker 0 ended without a report")

    with pytest.raises(WorkerLost):
        attempts.run(attempt)
    assert attempts.restarts == 0


def test_a_job_that_is_cancelled_while_it_waits_for_its_next_attempt_ends_without_an_error() -> None:
    attempts = Attempts(RecoveryOptions("job", restart="fixed-delay:1:1h"))
    log = logging.getLogger("sage.runners.driver.attempts")

    class CancelsWhenItHears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            attempts.stop()

    def attempt(checkpoints: AttemptCheckpoints) -> None:
        raise WorkerLost("worker 0 ended without a report")

    handler = CancelsWhenItHears()
    log.addHandler(handler)
    try:
        attempts.run(attempt)
    finally:
        log.removeHandler(handler)
    assert attempts.restarts == 0


def test_a_checkpoint_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    attempts = Attempts(RecoveryOptions("job", restart="fixed-delay:2:1ms", restore_from=str(tmp_path / "none")))
    with pytest.raises(CheckpointError, match="none"):
        attempts.run(lambda kept: pytest.fail("it has begun"))
    assert attempts.restarts == 0


def test_a_pipeline_that_does_not_fit_its_checkpoint_is_refused_at_once() -> None:
    part = Receipt("part", 1, 0, True)
    other = Manifest("/kept/job/chk-00000001", 1, "job", Kind.PERIODIC, "", {}, ((part,),), 0.0)
    durability = RecoveryOptions("job", restart="fixed-delay:2:1ms")
    attempts = Attempts(durability)
    with pytest.raises(CheckpointError, match="cannot go on from /kept/job/chk-00000001"):
        attempts.run(lambda kept: AttemptCheckpoints(durability, begin=other).check(Plan((), {})))
    assert attempts.restarts == 0


@pytest.mark.parametrize("kept", [True, False])
def test_only_the_last_loss_of_a_worker_says_what_to_do(
    kept: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def attempt(checkpoints: AttemptCheckpoints) -> None:
        raise WorkerLost("worker 0 ended without a report")

    directory = str(tmp_path) if kept else None
    with pytest.raises(WorkerLost) as caught:
        Attempts(RecoveryOptions("job", directory, restart="fixed-delay:1:1ms")).run(attempt)
    (warned,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "begins again" in warned
    assert "un it again" not in warned
    assert ("goes on from its last checkpoint" if kept else "incomplete; run it again") in str(caught.value)


def test_a_job_says_where_it_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    attempts = Attempts(RecoveryOptions("orders", str(tmp_path)))

    def attempt(checkpoints: AttemptCheckpoints) -> None:
        store = attempts.store
        assert store is not None
        worker = AttemptCheckpoints(checkpoints.durability, checkpoints.run).writer(Plan((), {}), 0, 1)
        assert worker is not None
        store.publish(checkpoints.epoch + 21, {0: worker(checkpoints.epoch + 21, {})}, {}, Kind.PERIODIC, "")

    attempts.run(attempt)
    assert caplog.messages == [f"orders begins anew: no checkpoint in {tmp_path}"]
    caplog.clear()
    Attempts(RecoveryOptions("orders", str(tmp_path))).run(lambda kept: None)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("orders goes on from chk-00000021 (taken 20")
    assert caplog.messages[0].endswith(" UTC)")


def test_an_interval_without_a_place_for_checkpoints_is_told(caplog: pytest.LogCaptureFixture) -> None:
    RecoveryOptions.of(SageOptions([]), "job")
    RecoveryOptions.of(SageOptions(["--checkpoint_interval=1s", "--checkpoint_dir=/kept"]), "job")
    assert caplog.messages == []
    RecoveryOptions.of(SageOptions(["--checkpoint_interval=1s"]), "job")
    assert "no effect without --checkpoint_dir" in caplog.text
