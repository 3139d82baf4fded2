"""Each runner says at once what it cannot do. What starts to pass fails a test here until the table has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.testing import test_stream
from apache_beam.transforms import trigger, userstate, window

import sage
from sage.errors import UnsupportedFeature
from sage.runners.features import RUNNERS, TABLE, refusals, refuse
from sage.runners.local import LocalRunner
from sage.runners.plan.uses import Feature, Use, uses_of
from sage.stateful import stateful_dofn


class Keyed(beam.DoFn):
    COUNT = userstate.CombiningValueStateSpec("count", sum)
    EVENT = userstate.TimerSpec("event", userstate.TimeDomain.WATERMARK)
    CLOCK = userstate.TimerSpec("clock", userstate.TimeDomain.REAL_TIME)

    def process(
        self,
        element: Any,
        count: Any = beam.DoFn.StateParam(COUNT),
        event: Any = beam.DoFn.TimerParam(EVENT),
        clock: Any = beam.DoFn.TimerParam(CLOCK),
    ) -> Any:
        yield element

    @userstate.on_timer(EVENT)
    def on_event(self) -> None:
        """Nothing to do."""

    @userstate.on_timer(CLOCK)
    def on_clock(self) -> None:
        """Nothing to do."""


class Finalized(beam.DoFn):
    def process(self, element: Any, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> Any:
        yield element


class Ranges(beam.transforms.core.RestrictionProvider):
    def initial_restriction(self, element: Any) -> OffsetRange:
        return OffsetRange(0, 2)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:
        return restriction.size()


RANGES = Ranges()


class Splittable(beam.DoFn):
    def process(self, element: Any, tracker: Any = beam.DoFn.RestrictionParam(RANGES)) -> Any:
        position = 0
        while tracker.try_claim(position):
            yield position
            position += 1


class Endless(Splittable):
    @beam.DoFn.unbounded_per_element()
    def process(self, element: Any, tracker: Any = beam.DoFn.RestrictionParam(RANGES)) -> Any:
        yield from super().process(element, tracker)


def keyed(p: beam.Pipeline) -> Any:
    return p | beam.Create([("a", 1)]) | "step" >> beam.ParDo(Keyed())


class Mapped(sage.KeyedProcessFunction[int, int]):
    seen = sage.MapState("seen", str, int, ttl_ms=1_000)

    def process_element(self, value: int, ctx: sage.KeyedContext) -> None:
        """Nothing to do."""


def mapped(p: beam.Pipeline) -> Any:
    return p | beam.Create([("a", 1)]) | "step" >> beam.ParDo(stateful_dofn(Mapped(), "step"))


def plain(p: beam.Pipeline) -> Any:
    return p | beam.Create([1]) | "step" >> beam.Map(abs)


def windowed(fn: Any, **how: Any) -> Callable[[beam.Pipeline], Any]:
    return lambda p: p | beam.Create([("a", 1)]) | beam.WindowInto(fn, **how) | "step" >> beam.GroupByKey()


def proto_of(build: Callable[[beam.Pipeline], Any]) -> protos.Pipeline:
    pipeline = beam.Pipeline(runner=LocalRunner())
    build(pipeline)
    return pipeline.to_runner_api()


def edited(build: Callable[[beam.Pipeline], Any], edit: Callable[[Any, Any], object]) -> protos.Pipeline:
    """A pipeline as another SDK might send it: its step's transform and ParDo payload are changed."""
    proto = proto_of(build)
    for transform in proto.components.transforms.values():
        if transform.unique_name.startswith("step") and transform.spec.urn == "beam:transform:pardo:v1":
            payload = protos.ParDoPayload.FromString(transform.spec.payload)
            edit(transform, payload)
            transform.spec.payload = payload.SerializeToString()
    return proto


def requiring(urn: str) -> protos.Pipeline:
    proto = proto_of(plain)
    proto.requirements.append(urn)
    return proto


EARLY = {
    "trigger": trigger.AfterWatermark(early=trigger.AfterCount(1)),
    "accumulation_mode": trigger.AccumulationMode.DISCARDING,
}

# For each feature a pipeline that asks for it.
EXAMPLES: dict[Feature, Callable[[], protos.Pipeline]] = {
    Feature.STATE: lambda: proto_of(keyed),
    Feature.EVENT_TIMERS: lambda: proto_of(keyed),
    Feature.PROCESSING_TIMERS: lambda: proto_of(keyed),
    Feature.SPLITTABLE: lambda: proto_of(lambda p: p | beam.Create([1]) | "step" >> beam.ParDo(Splittable())),
    Feature.SIDE_INPUTS: lambda: proto_of(
        lambda p: p | beam.Create([1]) | "step" >> beam.Map(max, beam.pvalue.AsSingleton(p | "s" >> beam.Create([2])))
    ),
    Feature.TRIGGERS: lambda: proto_of(windowed(window.FixedWindows(10), **EARLY)),
    Feature.MERGING_WINDOWS: lambda: proto_of(windowed(window.Sessions(10))),
    Feature.BUNDLE_FINALIZATION: lambda: proto_of(lambda p: p | beam.Create([1]) | "step" >> beam.ParDo(Finalized())),
    Feature.TEST_STREAM: lambda: proto_of(
        lambda p: p | "step" >> test_stream.TestStream().add_elements([1]).advance_watermark_to_infinity()
    ),
    Feature.UNBOUNDED: lambda: proto_of(lambda p: p | beam.Create([1]) | "step" >> beam.ParDo(Endless())),
    Feature.STABLE_INPUT: lambda: edited(plain, lambda _, do: setattr(do, "requires_stable_input", True)),
    Feature.TIME_SORTED_INPUT: lambda: edited(keyed, lambda _, do: setattr(do, "requires_time_sorted_input", True)),
    Feature.WINDOW_EXPIRATION: lambda: edited(
        keyed, lambda _, do: setattr(do, "on_window_expiration_timer_family_spec", "event")
    ),
    Feature.MAP_STATE: lambda: proto_of(mapped),
    Feature.STATE_TTL: lambda: proto_of(mapped),
    Feature.STATE_KIND: lambda: edited(keyed, lambda _, do: do.state_specs["m"].map_spec.SetInParent()),
    Feature.TIME_DOMAIN: lambda: edited(keyed, lambda _, do: setattr(do.timer_family_specs["clock"], "time_domain", 3)),
    Feature.FOREIGN_CODE: lambda: edited(plain, lambda _, do: setattr(do.do_fn, "urn", "beam:dofn:javasdk:0.1")),
    Feature.UNKNOWN_TRANSFORM: lambda: edited(plain, lambda step, _: setattr(step.spec, "urn", "acme:transform:v1")),
    Feature.UNKNOWN_REQUIREMENT: lambda: requiring("acme:requirement:v1"),
}


def test_the_table_and_the_examples_have_every_feature() -> None:
    assert set(TABLE) == set(EXAMPLES) == set(Feature)
    assert all(having <= set(RUNNERS) for having in TABLE.values())


@pytest.mark.parametrize("feature", Feature)
def test_a_pipeline_that_uses_a_feature_is_known_to(feature: Feature) -> None:
    uses = uses_of(EXAMPLES[feature]())
    (use,) = (use for use in uses if use.feature is feature)
    assert use.step.startswith("step") or feature is Feature.UNKNOWN_REQUIREMENT
    assert {use.feature for use in uses_of(proto_of(plain))} == set()


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("feature", Feature)
def test_what_a_runner_has_not_it_refuses_and_says_who_has_it(feature: Feature, runner: str) -> None:
    found = refusals([Use(feature, "my step")], runner)
    if runner in TABLE[feature]:
        assert found == []
    else:
        (refusal,) = found
        assert refusal.step == "my step"
        assert set(refusal.available_on) == TABLE[feature]


# A feature that passes here by and by belongs into the table: this test fails until it is.
@pytest.mark.parametrize("feature", [feature for feature in Feature if "local" not in TABLE[feature]])
def test_the_local_runner_refuses_before_anything_runs(feature: Feature) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        LocalRunner().run_proto(EXAMPLES[feature](), PipelineOptions([]))
    assert feature.value in str(caught.value)


@pytest.mark.parametrize("feature", [feature for feature in Feature if "local" in TABLE[feature]])
def test_what_the_table_gives_the_local_runner_runs_there(feature: Feature) -> None:
    assert LocalRunner().run_proto(EXAMPLES[feature](), PipelineOptions([])).wait_until_finish() == "DONE"


def test_all_refusals_come_in_one_report() -> None:
    def edit(step: Any, do: Any) -> None:
        do.requires_stable_input = True
        do.state_specs["m"].map_spec.SetInParent()
        do.state_specs["n"].multimap_spec.SetInParent()

    proto = edited(keyed, edit)
    proto.requirements.append("acme:requirement:v1")
    with pytest.raises(UnsupportedFeature) as caught:
        refuse(uses_of(proto), "local")
    assert str(caught.value).split("\n") == [
        "the local runner cannot run this pipeline:",
        "  - step 'step': stable input (@RequiresStableInput)",
        "  - step 'step': this kind of state: map state 'm'",
        "  - step 'step': this kind of state: multimap state 'n'",
        "  - step '(the whole pipeline)': this requirement: acme:requirement:v1",
    ]


def test_a_refusal_names_the_runners_that_can() -> None:
    with pytest.raises(UnsupportedFeature, match=r"step 'step': TestStream \(available on: local\)"):
        refuse(uses_of(EXAMPLES[Feature.TEST_STREAM]()), "ray")
