"""What a pipeline asks of whoever runs it: read from the proto at once, before anything of it is decoded."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms import core, window

from sage.runners.plan.read import is_readable, pairs_with_timing
from sage.statespecs import MAP_TTL_URN, MAP_URN, TTL_URN

_PRIMITIVES = common_urns.primitives
_COMBINES = (
    common_urns.composites.COMBINE_PER_KEY.urn,
    common_urns.combine_components.COMBINE_GROUPED_VALUES.urn,
)
_STATE_KINDS = {"read_modify_write_spec", "bag_spec", "combining_spec", "set_spec", "ordered_list_spec"}
_REQUIREMENTS = {
    common_urns.requirements.REQUIRES_STATEFUL_PROCESSING.urn,
    common_urns.requirements.REQUIRES_BUNDLE_FINALIZATION.urn,
    common_urns.requirements.REQUIRES_SPLITTABLE_DOFN.urn,
    # These two are asked for by a step as well, and are reported there.
    common_urns.requirements.REQUIRES_STABLE_INPUT.urn,
    common_urns.requirements.REQUIRES_TIME_SORTED_INPUT.urn,
}
_WHOLE = "(the whole pipeline)"


class Feature(enum.Enum):
    """A part of Beam's model that a runner has or has not; the value is how it is told to people."""

    STATE = "user state"
    EVENT_TIMERS = "event-time timers"
    PROCESSING_TIMERS = "processing-time timers"
    SPLITTABLE = "splittable DoFns"
    SIDE_INPUTS = "side inputs"
    TRIGGERS = "triggers other than the default"
    MERGING_WINDOWS = "merging windows"
    BUNDLE_FINALIZATION = "bundle finalization"
    TEST_STREAM = "TestStream"
    UNBOUNDED = "unbounded collections"
    STABLE_INPUT = "stable input (@RequiresStableInput)"
    TIME_SORTED_INPUT = "time-sorted input (@RequiresTimeSortedInput)"
    WINDOW_EXPIRATION = "a callback at a window's expiration (@OnWindowExpiration)"
    MAP_STATE = "state that is a map of entries"
    STATE_TTL = "state with a time to live"
    STATE_KIND = "this kind of state"
    TIME_DOMAIN = "this time domain of timers"
    FOREIGN_CODE = "code of another language"
    UNKNOWN_TRANSFORM = "this transform"
    UNKNOWN_REQUIREMENT = "this requirement"


@dataclass(frozen=True)
class Use:
    """One step asks for one feature; ``detail`` says which of its kind, where the feature alone does not."""

    feature: Feature
    step: str
    detail: str = ""


def uses_of(proto: beam_runner_api_pb2.Pipeline) -> list[Use]:
    """Everything a pipeline asks for, in the order of its steps, each once."""
    scan = _Scan(proto)
    found = [use for root in proto.root_transform_ids for use in scan.transform(root)]
    found += [
        Use(Feature.UNKNOWN_REQUIREMENT, _WHOLE, requirement)
        for requirement in sorted(set(proto.requirements) - _REQUIREMENTS)
    ]
    return list(dict.fromkeys(found))


class _Scan:
    def __init__(self, proto: beam_runner_api_pb2.Pipeline) -> None:
        self._components = proto.components

    def transform(self, id: str) -> Iterator[Use]:
        """What a transform and all within it ask for; goes as deep as `read_graph` does."""
        proto = self._components.transforms[id]
        urn = proto.spec.urn
        if is_readable(proto):
            yield from self._leaf(proto)
        elif proto.subtransforms:
            for child in proto.subtransforms:
                yield from self.transform(child)
        elif not set(proto.outputs.values()) <= set(proto.inputs.values()) and not pairs_with_timing(proto):
            yield Use(Feature.UNKNOWN_TRANSFORM, proto.unique_name, urn or "it has no URN and no parts")

    def _leaf(self, proto: Any) -> Iterator[Use]:
        name, urn = proto.unique_name, proto.spec.urn
        if urn == _PRIMITIVES.TEST_STREAM.urn:
            yield Use(Feature.TEST_STREAM, name)
        elif self._begins_unbounded(proto):
            yield Use(Feature.UNBOUNDED, name)
        if urn == _PRIMITIVES.PAR_DO.urn:
            yield from self._par_do(proto)
        elif urn in _COMBINES:
            fn = beam_runner_api_pb2.CombinePayload.FromString(proto.spec.payload).combine_fn
            if fn.urn not in core.CombineFn._known_urns:
                yield Use(Feature.FOREIGN_CODE, name, fn.urn)
        if urn in (_PRIMITIVES.GROUP_BY_KEY.urn, common_urns.composites.COMBINE_PER_KEY.urn):
            yield from self._grouping(proto)
        elif urn == _PRIMITIVES.ASSIGN_WINDOWS.urn:
            yield from self._windowing(name, next(iter(proto.outputs.values())))

    def _begins_unbounded(self, proto: Any) -> bool:
        """Whether a step makes an unbounded collection of bounded ones, or of nothing."""
        return any(map(self._unbounded, proto.outputs.values())) and not any(
            map(self._unbounded, proto.inputs.values())
        )

    def _unbounded(self, collection: str) -> bool:
        is_bounded = self._components.pcollections[collection].is_bounded
        return bool(is_bounded == beam_runner_api_pb2.IsBounded.UNBOUNDED)

    def _grouping(self, proto: Any) -> Iterator[Use]:
        strategy = self._strategy(next(iter(proto.inputs.values())))
        if strategy.trigger.WhichOneof("trigger") not in (None, "default"):
            yield Use(Feature.TRIGGERS, proto.unique_name)
        if strategy.merge_status == beam_runner_api_pb2.MergeStatus.NEEDS_MERGE:
            yield Use(Feature.MERGING_WINDOWS, proto.unique_name)

    def _windowing(self, name: str, collection: str) -> Iterator[Use]:
        fn = self._strategy(collection).window_fn
        if fn.urn not in window.WindowFn._known_urns:
            yield Use(Feature.FOREIGN_CODE, name, fn.urn)

    def _strategy(self, collection: str) -> Any:
        id = self._components.pcollections[collection].windowing_strategy_id
        return self._components.windowing_strategies[id]

    def _par_do(self, proto: Any) -> Iterator[Use]:
        name = proto.unique_name
        payload = beam_runner_api_pb2.ParDoPayload.FromString(proto.spec.payload)
        known = {python_urns.PICKLED_DOFN_INFO, python_urns.KEY_WITH_NONE_DOFN}
        if payload.do_fn.urn not in known:
            yield Use(Feature.FOREIGN_CODE, name, payload.do_fn.urn)
        if payload.side_inputs:
            yield Use(Feature.SIDE_INPUTS, name)
        if payload.restriction_coder_id:
            yield Use(Feature.SPLITTABLE, name)
        if payload.requests_finalization:
            yield Use(Feature.BUNDLE_FINALIZATION, name)
        if payload.requires_stable_input:
            yield Use(Feature.STABLE_INPUT, name)
        if payload.requires_time_sorted_input:
            yield Use(Feature.TIME_SORTED_INPUT, name)
        if payload.on_window_expiration_timer_family_spec:
            yield Use(Feature.WINDOW_EXPIRATION, name)
        yield from self._keyed(name, payload)

    def _keyed(self, name: str, payload: Any) -> Iterator[Use]:
        if payload.state_specs:
            yield Use(Feature.STATE, name)
        for id, state in sorted(payload.state_specs.items()):
            if state.protocol.urn.startswith(MAP_URN):
                yield Use(Feature.MAP_STATE, name)
            if state.protocol.urn in (TTL_URN, MAP_TTL_URN):
                yield Use(Feature.STATE_TTL, name)
            kind = state.WhichOneof("spec")
            if kind not in _STATE_KINDS:
                yield Use(Feature.STATE_KIND, name, f"{(kind or 'unnamed').removesuffix('_spec')} state {id!r}")
        domains = beam_runner_api_pb2.TimeDomain
        for id, timer in sorted(payload.timer_family_specs.items()):
            if timer.time_domain == domains.EVENT_TIME:
                yield Use(Feature.EVENT_TIMERS, name)
            elif timer.time_domain == domains.PROCESSING_TIME:
                yield Use(Feature.PROCESSING_TIMERS, name)
            else:
                yield Use(Feature.TIME_DOMAIN, name, f"domain {timer.time_domain} of timer {id!r}")
