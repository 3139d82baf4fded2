"""Pipelines that ask, by ``--update_compatibility_version``, for what an earlier Beam did, and what an earlier Beam did
wrong.
"""

from __future__ import annotations

from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
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


def keyed_first(pipeline: Pipeline) -> None:
    """Mends a pipeline that Beam 2.61 read back from a proto, as its ``TestPipeline`` does.

    There a combine's side inputs are among its main inputs, in any order, and Beam takes the first for the keyed one.
    """
    pipeline.visit(_KeyedFirst())


class _KeyedFirst(PipelineVisitor):
    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        transform, inputs = transform_node.transform, transform_node.main_inputs
        if len(inputs) > 1 and transform is not None and transform.runner_api_requires_keyed_input():
            transform_node.main_inputs = {tag: inputs[tag] for tag in sorted(inputs, key=_is_side)}


def _is_side(tag: str) -> bool:
    return tag.startswith(("side", "python_side_input"))
