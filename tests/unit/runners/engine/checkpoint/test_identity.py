"""Whose state is whose: what a change of a pipeline does to a checkpoint of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.internal import pickler
from apache_beam.transforms import environments
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer

from sage.runners.engine.checkpoint.identity import coder_form, compatible, describe, stage_ids, step_id, unnamed
from sage.runners.engine.core.spec import Plan
from sage.runners.plan import plan_pipeline
from sage.transactions import TransactionalDoFn


def planned(build: Callable[[Any], Any], workers: int = 1) -> Plan:
    pickler.set_library(pickler.USE_CLOUDPICKLE)
    pipeline = beam.Pipeline()
    build(pipeline | "Pairs" >> beam.Create([("a", 1)]).with_output_types(tuple[str, int]))
    proto = pipeline.to_runner_api(default_environment=environments.EmbeddedPythonEnvironment.default())
    return plan_pipeline(proto, workers)


def problems(before: Callable[[Any], Any], after: Callable[[Any], Any], **options: bool) -> list[str]:
    saved = json.loads(json.dumps(describe(planned(before))))
    return compatible(saved, describe(planned(after)), **options)


class Count(beam.DoFn):
    SEEN = ReadModifyWriteStateSpec("seen", coders.VarIntCoder())
    FLUSH = TimerSpec("flush", beam.TimeDomain.WATERMARK)

    def process(self, element: Any, seen: Any = beam.DoFn.StateParam(SEEN)) -> Any:
        yield element

    @on_timer(FLUSH)
    def flush(self) -> None:
        """Does nothing."""


class CountInText(Count):
    SEEN = ReadModifyWriteStateSpec("seen", coders.StrUtf8Coder())

    def process(self, element: Any, seen: Any = beam.DoFn.StateParam(SEEN)) -> Any:
        yield element


class CountMore(Count):
    OTHER = BagStateSpec("other", coders.VarIntCoder())

    def process(
        self,
        element: Any,
        seen: Any = beam.DoFn.StateParam(Count.SEEN),
        other: Any = beam.DoFn.StateParam(OTHER),
    ) -> Any:
        yield element


class CountRenamed(Count):
    TOTAL = ReadModifyWriteStateSpec("total", coders.VarIntCoder())

    def process(self, element: Any, total: Any = beam.DoFn.StateParam(TOTAL)) -> Any:
        yield element


class Write(TransactionalDoFn):
    def process(self, element: Any) -> None:
        """Writes nothing."""


def counted(pairs: Any) -> Any:
    return pairs | "Count" >> beam.ParDo(Count())


def grouped(pairs: Any) -> Any:
    return pairs | "Group" >> beam.GroupByKey()


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Map(<lambda at job.py:12>)", "Map(<lambda at job.py>)"),
        ("Sum/ParDo(<lambda at a b.py:1>)/x", "Sum/ParDo(<lambda at a b.py>)/x"),
        ("Ratio 1:2>", "Ratio 1:2>"),
    ],
)
def test_line_numbers_count_for_nothing(name: str, id: str) -> None:
    assert step_id(name) == id


def test_every_stage_has_an_id_of_its_own() -> None:
    def build(pairs: Any) -> None:
        pairs | beam.Reshuffle() | beam.Map(lambda pair: pair) | "One" >> beam.GroupByKey()
        pairs | "Two" >> beam.GroupByKey()

    plan = planned(build, workers=2)
    ids = stage_ids(plan)
    assert set(ids) == {stage.index for stage in plan.stages}
    assert len(set(ids.values())) == len(ids)


def test_a_pipeline_can_go_on_from_itself() -> None:
    for build in (counted, grouped):
        assert problems(build, build) == []


def test_steps_without_state_come_and_go() -> None:
    assert problems(counted, lambda pairs: pairs | beam.Map(lambda pair: pair) | "Count" >> beam.ParDo(Count())) == []


def test_state_that_is_new_begins_empty() -> None:
    assert problems(counted, lambda pairs: pairs | "Count" >> beam.ParDo(CountMore())) == []


def test_a_step_that_is_gone_is_named_with_what_there_is_and_may_be_left_behind() -> None:
    (problem,) = problems(counted, grouped)
    assert problem.startswith("step 'Count' is gone (there are 'Group")
    assert "--allow_dropped_state" in problem
    assert problems(counted, grouped, allow_dropped_state=True) == []


def test_what_a_sink_has_prepared_is_not_left_behind_unasked() -> None:
    def written(pairs: Any) -> Any:
        return pairs | "Write" >> beam.ParDo(Write())

    (problem,) = problems(written, lambda pairs: pairs | "Store" >> beam.ParDo(Write()))
    assert problem.startswith("step 'Write' is gone (there are 'Store')")
    assert problems(written, written) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (lambda p: p | "Count" >> beam.ParDo(CountInText()),
         "state 'seen' was a ReadModifyWriteState of VarIntCoder and is a ReadModifyWriteState of StrUtf8Coder now"),
        (lambda p: p | "Count" >> beam.ParDo(CountRenamed()),
         "it declares state 'seen' no more (new are: state 'total')"),
        (lambda p: p | "Count" >> beam.GroupByKey(), "it was a stateful pardo and is a group by key now"),
        (lambda p: p | beam.WindowInto(beam.window.FixedWindows(5)) | "Count" >> beam.ParDo(Count()),
         r"its windowing was GlobalWindows() and is FixedWindows(offset=Duration(0), size=Duration(5)) now"),
        (lambda p: p | beam.Map(lambda kv: (1, 1)).with_output_types(tuple[int, int]) | "Count" >> beam.ParDo(Count()),
         "its key coder was StrUtf8Coder and is VarIntCoder now"),
    ],
)  # fmt: skip
def test_state_that_no_longer_fits_is_refused_by_name(after: Callable[[Any], Any], said: str) -> None:
    (problem,) = problems(counted, after)
    assert problem.startswith(f"step 'Count': {said}: ")


def test_another_combine_is_another_state() -> None:
    def combined(fn: Any) -> Callable[[Any], Any]:
        return lambda pairs: pairs | "Sum" >> beam.CombinePerKey(fn)

    (problem,) = problems(combined(sum), combined(beam.combiners.MeanCombineFn()))
    assert "the accumulator was a result of sum and is a result of MeanCombineFn now" in problem
    assert problems(combined(sum), combined(sum)) == []


@pytest.mark.parametrize("what", ["key_hash", "key_groups"])
def test_keys_that_would_go_elsewhere_are_refused(what: str) -> None:
    now = describe(planned(counted))
    (problem,) = compatible(now | {what: "other"}, now)
    assert "use the version it was taken with" in problem


def test_another_version_of_beam_or_python_is_no_obstacle() -> None:
    now = describe(planned(counted))
    assert compatible(now | {"beam": "2.61.0", "python": "3.10"}, now) == []


def test_a_checkpoint_that_tells_nothing_is_refused() -> None:
    assert compatible({}, describe(planned(counted))) != []


def test_steps_with_state_and_without_a_name_are_found() -> None:
    def build(pairs: Any) -> Any:
        pairs | beam.ParDo(Count())
        pairs | beam.GroupByKey()
        pairs | beam.ParDo(Write())
        return pairs | beam.Map(lambda pair: pair) | "Named" >> beam.ParDo(Count())

    assert unnamed(planned(build)) == ["ParDo(Count)", "ParDo(Write)"]


def test_the_form_of_a_coder_names_its_parts_and_not_its_version() -> None:
    general = coders.FastPrimitivesCoder()
    pair = coders.TupleCoder([general.as_deterministic_coder("step"), coders.IterableCoder(coders.VarIntCoder())])
    assert coder_form(pair) == "TupleCoder[FastPrimitivesCoder, IterableCoder[VarIntCoder]]"
