"""What ``Create`` holds, taken from a pipeline that is in this process.

A plan is made of the pipeline's proto, in which functions are pickled and packed: for a million elements it takes
longer to unpack them than to run them. Their encoded bytes never change, so here they may be shared.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
from apache_beam.transforms import core


def created_in(pipeline: Pipeline) -> dict[str, Any]:
    """The step in each ``Create`` that gives its elements: by full name, all that the proto has pickled of it."""
    visitor = _Created()
    pipeline.visit(visitor)
    return visitor.found


class _Created(PipelineVisitor):
    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        step, within = transform_node.transform, transform_node.parent
        if (
            type(within.transform) is beam.Create
            and isinstance(step, core.ParDo)
            and type(step.fn) is core.CallableWrapperDoFn
            and all(isinstance(read.producer.transform, beam.Impulse) for read in transform_node.inputs)
        ):
            self.found[transform_node.full_label] = (step.fn, step.args, step.kwargs, None, None)
