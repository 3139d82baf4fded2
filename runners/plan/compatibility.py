"""Pipelines that ask, by ``--update_compatibility_version``, for what an earlier Beam did."""

from __future__ import annotations

from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

_RESHUFFLE = common_urns.composites.RESHUFFLE.urn
_KEEPS_PANES = (2, 65)


def as_of(proto: beam_runner_api_pb2.Pipeline, version: str | None) -> beam_runner_api_pb2.Pipeline:
    """The pipeline, so that it does what it did in a version of Beam; itself, if no version is named.

    Before 2.65, Reshuffle lost the pane of its elements. That is so in the parts that such a pipeline made it of,
    which are run here in place of our own exchange.
    """
    if version is None or tuple(map(int, version.split(".")[:2])) >= _KEEPS_PANES:
        return proto
    changed = beam_runner_api_pb2.Pipeline()
    changed.CopyFrom(proto)
    for transform in changed.components.transforms.values():
        if transform.spec.urn == _RESHUFFLE and transform.subtransforms:
            transform.spec.urn = ""
    return changed
