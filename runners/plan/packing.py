"""Packing: combines of one collection that share a shuffle, where a transform asks for it by Beam's annotation."""

from __future__ import annotations

from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2

_PRIMITIVES = common_urns.primitives
_KEPT_WHOLE = frozenset(
    {
        _PRIMITIVES.IMPULSE.urn,
        _PRIMITIVES.FLATTEN.urn,
        _PRIMITIVES.GROUP_BY_KEY.urn,
        _PRIMITIVES.TEST_STREAM.urn,
        common_urns.composites.RESHUFFLE.urn,
    }
)


def pack_combines(proto: beam_runner_api_pb2.Pipeline) -> beam_runner_api_pb2.Pipeline:
    """The pipeline with its packable combines packed by Beam's own optimizer; itself, if nothing asks for that."""
    if not any(python_urns.APPLY_COMBINER_PACKING in t.annotations for t in proto.components.transforms.values()):
        return proto
    # Not at the top: the optimizer takes its time to import, and few pipelines need it.
    from apache_beam.runners.portability.fn_api_runner import translations

    phases = [translations.pack_combiners, translations.sort_stages]
    return translations.optimize_pipeline(proto, phases, known_runner_urns=_KEPT_WHOLE, partial=True)
