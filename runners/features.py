"""The feature x runner table, and the refusals that follow from it.

A runner refuses what it has not, all of it in one report, before anything of the pipeline runs. What is not in the
table is a feature that no runner has.
"""

from __future__ import annotations

from collections.abc import Iterable

from sage.errors import Refusal, UnsupportedFeature
from sage.runners.plan.uses import Feature, Use

RUNNERS = ("local", "ray", "flink")

_ALL = frozenset(RUNNERS)
_LOCAL = frozenset({"local"})
_NONE: frozenset[str] = frozenset()

TABLE: dict[Feature, frozenset[str]] = {
    Feature.STATE: _ALL,
    Feature.EVENT_TIMERS: _ALL,
    Feature.PROCESSING_TIMERS: _ALL,
    Feature.SPLITTABLE: _ALL,
    Feature.SIDE_INPUTS: _ALL,
    Feature.TRIGGERS: _ALL,
    Feature.MERGING_WINDOWS: _ALL,
    Feature.BUNDLE_FINALIZATION: _ALL,
    # A test stream moves a virtual clock that one worker has; the other hosts keep the system's time.
    Feature.TEST_STREAM: _LOCAL,
    # The other hosts run a job to the end of its input and take no checkpoints.
    Feature.UNBOUNDED: _LOCAL,
    Feature.STABLE_INPUT: _NONE,
    Feature.TIME_SORTED_INPUT: _NONE,
    Feature.WINDOW_EXPIRATION: _NONE,
    Feature.MAP_STATE: _ALL,
    Feature.STATE_TTL: _ALL,
    Feature.STATE_KIND: _NONE,
    Feature.TIME_DOMAIN: _NONE,
    Feature.FOREIGN_CODE: _NONE,
    Feature.UNKNOWN_TRANSFORM: _NONE,
    Feature.UNKNOWN_REQUIREMENT: _NONE,
}
"""Which runners have each feature of Beam's model."""


def refusals(uses: Iterable[Use], runner: str) -> list[Refusal]:
    """What a runner cannot do of what a pipeline asks for; empty if it can run all of it.

    Args:
        uses: what the pipeline asks for, as `uses_of` reads it from the proto.
        runner: one of `RUNNERS`.
    """
    return [
        Refusal(
            use.step,
            f"{use.feature.value}: {use.detail}" if use.detail else use.feature.value,
            tuple(name for name in RUNNERS if name in TABLE[use.feature]),
        )
        for use in uses
        if runner not in TABLE[use.feature]
    ]


def refuse(uses: Iterable[Use], runner: str) -> None:
    """Raises if a runner cannot do all that a pipeline asks for.

    Raises:
        UnsupportedFeature: with every refusal.
    """
    found = refusals(uses, runner)
    if found:
        raise UnsupportedFeature(runner, found)
