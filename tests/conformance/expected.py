"""Beam's tests that are expected to fail, each with its reason; a listed test that passes is an error too."""

from __future__ import annotations

from typing import NamedTuple


class Expected(NamedTuple):
    """Why a test fails, and on which versions of Beam; on all if none is named.

    A ``race`` is lost in some runs and won in others.
    """

    reason: str
    beams: tuple[str, ...] = ()
    race: bool = False


_LAST_PANE = (
    "expects that values are lost which a repeated count has not reached at the end of the input;"
    " here they come out in a last pane, as the Beam model has it"
)
_PRECISION = "compares with timestamps cut to milliseconds by Beam's coder; ours keep their microseconds"
_DILL = "expects what the pickler that Beam 2.61 begins with, dill, does with an exception; ours is cloudpickle always"
_UNTRANSLATABLE = "builds a window function that has no proto: fails before the runner is called, on every runner"

EXPECTED_FAILURES: dict[str, Expected] = {
    "LeaderBoardTest::test_leader_board_users": Expected(_LAST_PANE),
    "CreateTest::test_create_uses_coder_for_pickling": Expected(_DILL, beams=("2.61",)),
    "TestStreamTranscriptTest::test_timestamp_combiner_custom_timestamping_earliest_1": Expected(_UNTRANSLATABLE),
    "WeakTestStreamTranscriptTest::test_timestamp_combiner_custom_timestamping_earliest_1": Expected(_UNTRANSLATABLE),
    "FullyQualifiedNamedTransformTest::test_resolve": Expected("needs pandas, which nothing else here does"),
    "ReshuffleTest::test_reshuffle_windows_unchanged": Expected(_PRECISION),
    "ReshuffleTest::test_reshuffle_window_fn_preserved": Expected(_PRECISION),
}

_DRIVER = "looks in the test's own process for what its functions left in a variable there; they ran in the workers"
_ONE_GLOBAL = "counts in a global of one process; each worker has its own"

EXPECTED_WITH_SEVERAL_WORKERS: dict[str, Expected] = {
    "ErrorHandlingTest::test_error_handling_pardo_with_exception_handling_kwargs": Expected(_DRIVER),
    "PTransformTest::test_group_by_key_deterministic_coder": Expected(
        "makes a class a global of its module while it runs; the workers import the module without it"
    ),
    "TeeTest::test_tee": Expected(_DRIVER),
    "WaitOnTest::test_find": Expected(_ONE_GLOBAL),
    "WatchEndToEndTest::test_multi_round_dedups_stops_and_is_per_input": Expected(_DRIVER),
}
"""What fails with several workers, beside what always fails."""


def expected_failures(beam: str, workers: int) -> dict[str, Expected]:
    """What fails on a version of Beam (as ``"2.77"``) with so many workers, by class and name of the test."""
    found = {**EXPECTED_FAILURES, **(EXPECTED_WITH_SEVERAL_WORKERS if workers > 1 else {})}
    return {name: expected for name, expected in found.items() if beam in (expected.beams or (beam,))}
