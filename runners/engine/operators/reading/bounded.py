"""Bounded sources: Beam reads them by a splittable DoFn of its own, recognised here and read without its machinery.

That DoFn never defers and hands on what the source's ``read`` gives, so reading a restriction is iterating over
it. Its general twin is the splittable DoFn as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apache_beam.io import iobase
from apache_beam.runners.common import DoFnSignature
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core import spec
from sage.runners.engine.operators.base.operator import ParDoOp

_PROBE = iobase.SDFBoundedSourceReader()._create_sdf_bounded_source_dofn()
_PROBE_CODE = type(_PROBE).process.__code__


def reads_bounded_source(step: spec.Step) -> bool:
    """Whether a step is Beam's own reader of bounded sources, as the installed Beam has it."""
    if not (isinstance(step, spec.ParDo) and step.splittable) or step.side_inputs:
        return False
    process = getattr(type(step.dofn.fn), "process", None)
    if getattr(process, "__code__", None) != _PROBE_CODE:
        return False
    provider = DoFnSignature(step.dofn.fn).get_restriction_provider()
    return type(provider) is iobase._SDFBoundedSourceRestrictionProvider


class BoundedReadOp(ParDoOp):
    """Takes sized restrictions of bounded sources, and puts out what the sources hold."""

    def process(self, value: WindowedValue) -> None:
        self.guarded(self.runner.process_with_sized_restriction, value)

    def read(self, sized: Any) -> Iterable[Any]:
        """What one restriction of a source holds; the host may know a faster way to read it."""
        (_, (restriction, _)), _ = sized
        source, tracker = restriction.source(), restriction.range_tracker()
        fast = self.context.job.fast_read
        found = None if fast is None else fast(source, tracker)
        return source.read(tracker) if found is None else found
