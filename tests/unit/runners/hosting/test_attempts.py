"""Which failures a job begins again after."""

from __future__ import annotations

import pytest

from sage.errors import ConfigError, StepError, WorkerLost
from sage.runners.hosting.attempts import Attempts
from sage.runners.hosting.checkpoints import Checkpoints, Durability


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (StepError("Parse", ValueError("a bad row")), 3),
        (WorkerLost("worker 1 ended without a report"), 3),
        (StepError("Write", ConfigError("the folder has files of an earlier run")), 1),
        (KeyError("not of the job"), 1),
    ],
)
def test_a_job_begins_again_where_that_could_help(error: Exception, times: int) -> None:
    called = 0

    def attempt(checkpoints: Checkpoints) -> None:
        nonlocal called
        called += 1
        raise error

    with pytest.raises(type(error)):
        Attempts(Durability("job", restart="fixed-delay:2:1ms")).run(attempt)
    assert called == times
