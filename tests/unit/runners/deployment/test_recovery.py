"""What is told of the checkpoints that a job has, or has not, and where they are copied to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.periodicsequence import PeriodicImpulse

from sage.errors import CheckpointError
from sage.runners.deployment.recovery import AttemptCheckpoints, RecoveryOptions, warn_of
from sage.runners.engine.checkpoint.protocol import Kind
from sage.runners.state.snapshots import CheckpointStore
from sage.transforms.io import WriteText
from tests.unit.runners.engine.checkpoint.test_identity import Count, planned


def _told(caplog: pytest.LogCaptureFixture, build: Any, directory: str | None) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of(planned(build), RecoveryOptions("job", directory))
    return caplog.text


def _counted(pairs: Any) -> None:
    pairs | beam.ParDo(Count())
    pairs | "Named" >> beam.ParDo(Count())


def test_names_that_beam_made_up_are_told_where_there_are_checkpoints(caplog: pytest.LogCaptureFixture) -> None:
    told = _told(caplog, _counted, "kept")
    assert "'ParDo(Count)'. Name them" in told
    assert "Named" not in told
    assert _told(caplog, _counted, None) == ""


def _written(pairs: Any) -> None:
    pairs | beam.Keys() | "Bounded" >> WriteText("lines")


def _written_for_ever(pairs: Any) -> None:
    forever = pairs.pipeline | PeriodicImpulse()
    forever | beam.Map(str) | "Endless" >> WriteText("lines")


def test_a_stream_that_is_never_committed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert "without --checkpoint_dir what goes to 'Endless/Parts'" in _told(caplog, _written_for_ever, None)
    assert _told(caplog, _written_for_ever, "kept") == ""
    assert _told(caplog, _written, None) == ""


def test_a_checkpoint_is_copied_to_the_folder_of_the_state(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "kept"), "job", "run")
    begin = store.publish(1, {0: store.write(1, 0, {})}, {}, Kind.PERIODIC, "")
    state = tmp_path / "state"
    with AttemptCheckpoints(RecoveryOptions("job", state_dir=str(state)), begin=begin).loaded(planned(_counted), 0, 1):
        assert [path.name.startswith("sage-state-") for path in state.iterdir()] == [True]
    assert not list(state.iterdir())


def test_what_a_stage_finds_damaged_is_told_with_the_checkpoint_it_was_in(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "job", "run")
    older, begin = (store.publish(n, {0: store.write(n, 0, {})}, {}, Kind.PERIODIC, "") for n in (1, 2))
    loaded = AttemptCheckpoints(RecoveryOptions("job"), begin=begin).loaded(planned(_counted), 0, 1)
    with pytest.raises(CheckpointError) as caught, loaded:
        raise CheckpointError.damaged("keyed state cannot be read back")
    assert f"checkpoint {begin.url} cannot be used: keyed state cannot be read back." in str(caught.value)
    assert f"--restore_from={older.url}" in str(caught.value)
    assert caught.value.lasting
