"""The job handle's registry: who hears of a job."""

from __future__ import annotations

import logging

import apache_beam as beam
import pytest
from apache_beam.runners.runner import PipelineState

from sage.handle import JobHandle, JobState, announce, observe_jobs
from sage.runners.local import LocalRunner


def _run_a_job() -> beam.runners.runner.PipelineResult:
    p = beam.Pipeline(runner=LocalRunner())
    p | "Numbers" >> beam.Create([1, 2, 3]) | "Double" >> beam.Map(lambda n: 2 * n)
    return p.run()


def test_a_local_job_is_a_handle_and_is_announced_once_before_it_works():
    seen: list[tuple[JobHandle, str, int]] = []

    with observe_jobs(lambda handle: seen.append((handle, str(handle.state), len(handle.progress())))):
        result = _run_a_job()

    ((handle, state, _),) = seen
    assert handle is result
    assert isinstance(handle, JobHandle)
    assert state in (JobState.STARTING, JobState.RUNNING)
    assert handle.state == JobState.DONE
    progress = {step.name: step for step in handle.progress()}
    assert (progress["Double"].elements_in, progress["Double"].elements_out, progress["Double"].state) == (3, 3, "done")


def test_an_observer_is_told_only_while_its_block_is_open():
    seen: list[JobHandle] = []

    with observe_jobs(seen.append), observe_jobs(seen.append):
        _run_a_job()
    _run_a_job()

    assert len(seen) == 2


def test_a_failing_observer_does_not_reach_the_job(caplog):
    def fail(handle: JobHandle) -> None:
        raise RuntimeError("the observer's own trouble")

    seen: list[JobHandle] = []
    with caplog.at_level(logging.ERROR, logger="sage.handle"), observe_jobs(fail), observe_jobs(seen.append):
        result = _run_a_job()

    assert result.state == JobState.DONE
    assert seen == [result]
    assert "the observer's own trouble" in caplog.text


def test_a_job_without_observers_needs_no_ceremony():
    announce(_run_a_job())


@pytest.mark.parametrize("state", list(JobState))
def test_states_are_those_of_beam(state):
    assert getattr(PipelineState, state.name) == state
    assert str(state) == state.value
    assert PipelineState.is_terminal(state.value) == state.terminal
