"""Beam's tests that are expected to fail, each with its reason; a listed test that passes is an error too."""

from __future__ import annotations

from typing import NamedTuple


class Expected(NamedTuple):
    """Why a test fails, and on which versions of Beam; on all if none is named."""

    reason: str
    beams: tuple[str, ...] = ()


_RECORDER = (
    "expects that a grouping's reader has the watermark of the pane it reads, as on Beam's old direct runner;"
    " here the watermark follows the pane"
)
_LAST_PANE = (
    "expects that values are lost which a repeated count has not reached at the end of the input;"
    " here they come out in a last pane, as the Beam model has it"
)
_KEYED_CHECK = "Beam 2.61 itself takes the combine for one of elements without keys; its own runners fail too"
_TIE = "two quantiles have equal keys, and which of them comes depends on the order of elements"
_UUIDS = "gives out two identifiers only, and cloudpickle, which we always use, asks for more"
_OLD_RESHUFFLE = (
    "asks for the way Reshuffle lost the pane before Beam 2.65; our Reshuffle is no grouping and keeps it"
)
_PRECISION = "compares with timestamps cut to milliseconds by Beam's coder; ours keep their microseconds"
_UNTRANSLATABLE = "builds a window function that has no proto: fails before the runner is called, on every runner"

EXPECTED_FAILURES: dict[str, Expected] = {
    "ReverseTestStreamTest::test_windowing": Expected(_RECORDER),
    "LeaderBoardTest::test_leader_board_users": Expected(_LAST_PANE),
    "PipelineTest::test_auto_unique_labels": Expected(_UUIDS, beams=("2.61",)),
    "PTransformTest::test_combine_per_key_with_side_input_as_arg": Expected(_KEYED_CHECK, beams=("2.61",)),
    "PTransformTest::test_combine_with_side_input_as_arg": Expected(_KEYED_CHECK, beams=("2.61",)),
    "ApproximateQuantilesTest::test_batched_quantiles": Expected(_TIE, beams=("2.61",)),
    "TestStreamTest::test_basic_execution_with_service": Expected(
        "the messages of that service are not in the wheel of Beam 2.61", beams=("2.61",)
    ),
    "TestStreamTranscriptTest::test_timestamp_combiner_custom_timestamping_earliest_1": Expected(_UNTRANSLATABLE),
    "WeakTestStreamTranscriptTest::test_timestamp_combiner_custom_timestamping_earliest_1": Expected(_UNTRANSLATABLE),
    "FullyQualifiedNamedTransformTest::test_resolve": Expected("needs pandas, which nothing else here does"),
    "ReshuffleTest::test_reshuffle_default_window_preserves_metadata_1": Expected(_OLD_RESHUFFLE),
    "ReshuffleTest::test_reshuffle_custom_window_preserves_metadata_1": Expected(_OLD_RESHUFFLE),
    "ReshuffleTest::test_reshuffle_windows_unchanged": Expected(_PRECISION),
    "ReshuffleTest::test_reshuffle_window_fn_preserved": Expected(_PRECISION),
}

_ONE_BUNDLE = "counts the bundles or instances of the whole job as one; each worker has its own"
_DRIVER = "looks in the memory of the test's own process for what its functions did; they ran in the workers"
_BATCHES = "expects batches cut from all elements in one bundle; each worker batches those it has"
_MERGE_ORDER = "expects accumulators to be merged in the order of the elements; several workers' come as they come"

EXPECTED_WITH_SEVERAL_WORKERS: dict[str, Expected] = {
    "BatchElementsTest::test_constant_batch": Expected(_BATCHES),
    "BatchElementsTest::test_constant_batch_no_metrics": Expected(_BATCHES),
    "BatchElementsTest::test_grows_to_max_batch": Expected(_BATCHES),
    "BatchElementsTest::test_length_fn_without_stateful_is_ignored": Expected(_BATCHES),
    "BatchElementsTest::test_stateful_constant_batch": Expected(_BATCHES),
    "BatchElementsTest::test_stateful_grows_to_max_batch": Expected(_BATCHES),
    "CombineTest::test_combining_with_session_windows_and_fanout": Expected(_MERGE_ORDER),
    "CombineTest::test_combining_with_sliding_windows_and_fanout": Expected(_MERGE_ORDER),
    "ErrorHandlingTest::test_error_handling_pardo_with_exception_handling_kwargs": Expected(_DRIVER),
    "FnApiCases::test_batch_rebatch_pardos": Expected("catches a warning; it is given in the workers"),
    "LogElementsTest::test_setting_level_uses_appropriate_log_channel": Expected(_DRIVER),
    "LogElementsTest::test_stdout_logs": Expected(_DRIVER),
    "LogElementsTest::test_stdout_logs_without_rfc3339": Expected(_DRIVER),
    "PTransformTest::test_do_fn_with_finish": Expected(_ONE_BUNDLE),
    "PTransformTest::test_do_fn_with_start": Expected(_ONE_BUNDLE),
    "PTransformTest::test_group_by_key_allow_unsafe_triggers": Expected(
        "expects a trigger to see the elements in the order of the list; several workers send theirs as they come"
    ),
    "PTransformTest::test_group_by_key_deterministic_coder": Expected(
        "makes a class a global of its module while it runs; the workers import the module without it"
    ),
    "PTransformTypeCheckTestCase::test_combine_runtime_type_check_violation_using_decorators": Expected(
        "its function gives the wrong type; where several workers' results are merged, it takes them in and fails first"
    ),
    "RuntimeTypeCheckTest::test_wrapper_pass_through": Expected(_ONE_BUNDLE),
    "TeeTest::test_tee": Expected(_DRIVER),
    "WaitOnTest::test_find": Expected("counts in a global of one process; each worker has its own"),
}
"""What more is expected to fail with several workers; some of these pass where all elements come to one of them."""
