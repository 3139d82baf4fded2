"""From the steps of a stage to the operators that run them."""

from __future__ import annotations

from collections.abc import Mapping

from sage.errors import InvalidPipeline
from sage.runners.engine.core import spec
from sage.runners.engine.core.spec import CollectionId
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.operator import BatchOp, CombineValuesOp, Op, Output, ParDoOp, WindowOp
from sage.runners.engine.operators.base.root import EmptyRoot, ImpulseRoot, OpRoot, PassRoot, Root
from sage.runners.engine.operators.grouping.combine import MergeRoot, PreCombineOp
from sage.runners.engine.operators.grouping.group import GroupRoot, fires_once
from sage.runners.engine.operators.grouping.merging import MergingRoot, fires_once_merged
from sage.runners.engine.operators.grouping.triggered import TriggeredRoot
from sage.runners.engine.operators.keyed.stateful import StatefulRoot
from sage.runners.engine.operators.reading.bounded import BoundedReadOp, reads_bounded_source
from sage.runners.engine.operators.reading.polled import PolledRoot, reads_splits
from sage.runners.engine.operators.reading.sources import TestStreamRoot, TimingRoot
from sage.runners.engine.operators.reading.splittable import SplitRestrictionsOp, SplittableRoot
from sage.runners.engine.operators.side_inputs.gate import SideInputGate
from sage.runners.engine.operators.side_inputs.views import SideView, make_view
from sage.runners.engine.operators.two_phase_sink import TransactionalOp, is_transactional

Outputs = Mapping[CollectionId, Output]


def make_op(step: spec.Step, outputs: Outputs, context: TaskContext) -> Op:
    """The operator of a step that runs fused behind another."""
    if isinstance(step, spec.ParDo):
        return _par_do(step, outputs, context)
    if isinstance(step, spec.AssignWindows):
        return WindowOp(step, outputs[step.output], context)
    if isinstance(step, spec.PreCombine):
        return PreCombineOp(step, outputs[step.output], context)
    if isinstance(step, spec.CombineValues):
        return CombineValuesOp(step, outputs[step.output], context)
    if isinstance(step, spec.SplitRestrictions):
        return SplitRestrictionsOp(step, outputs[step.output], context)
    raise InvalidPipeline(f"step '{step.name}': a {step.kind} cannot run fused")


def _par_do(
    step: spec.ParDo, outputs: Outputs, context: TaskContext, views: tuple[SideView, ...] = ()
) -> ParDoOp:
    kind: type[ParDoOp] = BatchOp if _takes_batches(step) else ParDoOp
    if is_transactional(step) and context.job.options.epochs:
        kind = TransactionalOp
    return kind(step, _tagged(step, outputs), context, views)


def _takes_batches(step: spec.ParDo) -> bool:
    fn = step.dofn.fn
    return bool(getattr(fn, "_process_batch_defined", False) and getattr(fn, "input_batch_converter", None))


def _tagged(step: spec.Step, outputs: Outputs) -> dict[str | None, Output]:
    return {tag: outputs[collection] for tag, collection in step.outputs.items()}


def make_root(step: spec.Step, outputs: Outputs, context: TaskContext) -> Root:
    """The operator of a step that begins a stage."""
    if isinstance(step, spec.ParDo):
        return _par_do_root(step, outputs, context)
    if isinstance(step, spec.TestStream):
        return TestStreamRoot(step, _tagged(step, outputs), context)
    if isinstance(step, spec.Flatten) and not step.inputs:
        return EmptyRoot()
    output = outputs[step.output]
    if isinstance(step, spec.Impulse):
        return ImpulseRoot(output)
    if isinstance(step, spec.Flatten | spec.Redistribute):
        return PassRoot(output)
    if isinstance(step, spec.PairWithTiming):
        return TimingRoot(output, context)
    if isinstance(step, spec.MergeCombine):
        return MergeRoot(step, output, context)
    if isinstance(step, spec.GroupByKey) and fires_once(context.collections[step.inputs[0]].windowing):
        return GroupRoot(step, output, context)
    if isinstance(step, spec.GroupByKey | spec.CombinePerKey):
        windowing = context.collections[step.inputs[0]].windowing
        if fires_once_merged(windowing) and context.job.options.execution_path != "general":
            return MergingRoot(step, output, context)
        return TriggeredRoot(step, output, context)
    raise InvalidPipeline(f"step '{step.name}': a {step.kind} cannot begin a stage")


def _par_do_root(step: spec.ParDo, outputs: Outputs, context: TaskContext) -> Root:
    views = [make_view(side, context) for side in step.side_inputs]
    root: Root
    if step.stateful:
        root = StatefulRoot(step, _tagged(step, outputs), context, views)
    elif step.splittable and context.job.options.execution_path != "general" and reads_bounded_source(step):
        root = OpRoot(BoundedReadOp(step, _tagged(step, outputs), context, views), step.inputs[0])
    elif context.job.options.execution_path != "general" and reads_splits(step):
        root = PolledRoot(step, _tagged(step, outputs), context)
    elif step.splittable:
        root = SplittableRoot(step, _tagged(step, outputs), context, views)
    else:
        root = OpRoot(_par_do(step, outputs, context, tuple(views)), step.inputs[0])
    return SideInputGate(root, step, views, context) if views else root
