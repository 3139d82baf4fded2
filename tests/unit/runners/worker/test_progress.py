from __future__ import annotations

from sage.handle import StepProgress
from sage.runners.worker.progress import join_halves, merge_progress


def test_workers_add_up_and_a_step_is_done_when_it_is_done_everywhere() -> None:
    one = [StepProgress("a", 3, 4, 1.5, "done", 7), StepProgress("b", 1, 0, 0.5, "running")]
    two = [StepProgress("a", 1, 1, 2.0, "done", 2), StepProgress("b", 0, 0, 0.0, "waiting")]
    assert merge_progress([one, two]) == [
        StepProgress("a", 4, 5, 3.5, "done", 9),
        StepProgress("b", 1, 0, 0.5, "running"),
    ]


def test_a_worker_that_has_said_nothing_yet_keeps_steps_from_being_done() -> None:
    assert merge_progress([[StepProgress("a", 3, 4, 1.5, "done")], []]) == [StepProgress("a", 3, 4, 1.5, "running")]
    assert merge_progress([[], []]) == []


def test_both_halves_of_a_step_are_one_entry() -> None:
    halves = [
        StepProgress("sum", 100, 8, 2.0, "done"),
        StepProgress("next", 5, 5, 1.0, "running"),
        StepProgress("sum", 8, 5, 3.0, "running"),
    ]
    assert join_halves(halves) == [
        StepProgress("sum", 100, 5, 5.0, "running"),
        StepProgress("next", 5, 5, 1.0, "running"),
    ]
