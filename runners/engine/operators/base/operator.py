"""Fused steps: what takes one element after another inside a stage.

The contract of an `Op`, which every kind of step keeps:

1. ``open`` is called once before anything else, ``close`` once after everything, also after a failure.
2. ``start_bundle`` and ``finish_bundle`` bracket any number of ``process`` and ``process_block`` calls.
3. ``process`` hands each output on before it pulls the next; nothing is kept back beyond ``finish_bundle``.
4. Calls never overlap, and an op never calls itself again through its outputs: a stage is a tree.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.common import DoFnRunner, Receiver
from apache_beam.transforms.core import CallableWrapperDoFn, DoFn
from apache_beam.transforms.window import GlobalWindows, TimestampedValue, WindowFn
from apache_beam.utils.windowed_value import HomogeneousWindowedBatch, WindowedValue

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.core.windows import KNOWN_WINDOWS, assigner
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import RAISED, naming, raise_step_error
from sage.runners.engine.operators.base.type_checks import CheckedOutput, constraints_of

BATCH_ROWS = 4096


class Op:
    """One fused step."""

    step: spec.Step

    def open(self) -> None:
        """Set-up, once."""

    def start_bundle(self) -> None:
        """A bundle begins."""

    def process(self, value: WindowedValue) -> None:
        """Takes one element."""
        raise NotImplementedError(type(self))

    def process_block(self, block: Block) -> None:
        """Takes a block; the default goes element by element."""
        process = self.process
        for value in block.windowed_values():
            process(value)

    def finish_bundle(self) -> None:
        """A bundle ends: what was kept back goes out."""

    def finalize_bundle(self) -> None:
        """The outputs of the bundles before the last `seal` are durable."""

    def on_barrier(self) -> None:
        """A barrier: what the bundles so far want to hear when they are durable is set apart."""

    def close(self) -> None:
        """Tear-down, once."""


class Output(Receiver):
    """One collection inside a stage: hands what it receives to every consumer."""

    def __init__(self, collection: spec.CollectionId) -> None:
        self.collection = collection
        self.consumers: list[Op] = []
        self.front: Any = None
        self.count = 0

    def receive(self, windowed_value: WindowedValue) -> None:
        """Takes one element; called by Beam's DoFnRunner."""
        self.count += 1
        if self.front is not None:
            self.front.process(windowed_value)
            return
        for consumer in self.consumers:
            consumer.process(windowed_value)

    def receive_batch(self, windowed_batch: Any) -> None:
        """Takes a batch that a DoFn made."""
        raise NotImplementedError("the producer of batches sets a BatchOutput")

    def receive_block(self, block: Block) -> None:
        """Takes a block."""
        self.count += len(block)
        if self.front is not None:
            self.front.process_block(block)
            return
        for consumer in self.consumers:
            consumer.process_block(block)

    def flush(self) -> None:
        """Sends on what was kept back; nothing is."""


class BatchOutput(Receiver):
    """What a DoFn that makes batches writes to: batches go on whole to steps that take their type."""

    def __init__(self, output: Output, converter: Any) -> None:
        self.output = output
        self.converter = converter
        self.warned = False

    def receive(self, windowed_value: WindowedValue) -> None:
        self.output.receive(windowed_value)

    def receive_batch(self, windowed_batch: Any) -> None:
        consumers = self.output.consumers
        takers = [c for c in consumers if isinstance(c, BatchOp) and c.takes(self.converter)]
        if not takers:
            self._warn(consumers)
            self.output.receive_block(self._explode(windowed_batch))
            return
        for taker in takers:
            taker.process_batch(windowed_batch)
        if len(takers) < len(consumers):
            self._warn(consumers)
            block = self._explode(windowed_batch)
            for consumer in consumers:
                if consumer not in takers:
                    consumer.process_block(block)
        self.output.count += self.converter.get_length(windowed_batch.values)

    def _warn(self, consumers: Sequence[Op]) -> None:
        """Says, once, that a step takes batches of another type than it gets."""
        from apache_beam.runners.worker.operations import InefficientExecutionWarning

        for op in consumers:
            if not self.warned and isinstance(op, BatchOp) and not op.takes(self.converter):
                self.warned = True
                warnings.warn(
                    f"Input to {op.step.name} ({op.step.dofn.fn}) must be rebatched from type "
                    f"{self.converter.batch_type!r} to {op.converter.batch_type!r}.\nThis is very inefficient, "
                    "consider adding a DoFn that directly converts between these types.",
                    InefficientExecutionWarning,
                    stacklevel=2,
                )

    def _explode(self, batch: Any) -> Block:
        values = list(self.converter.explode_batch(batch.values))
        return Block(values, batch.timestamp, tuple(batch.windows), batch.pane_info)


class _Receivers(dict):  # type: ignore[type-arg]
    """Tag to receiver; an output that nobody declared goes nowhere, as on Beam's runners."""

    def __missing__(self, tag: str | None) -> Receiver:
        receiver = self[tag] = Output(spec.CollectionId(""))
        return receiver


class ParDoOp(Op):
    """A DoFn run by Beam's own ``DoFnRunner``: the general way, and the twin of the compiled one."""

    step: spec.ParDo

    def __init__(
        self,
        step: spec.ParDo,
        outputs: Mapping[str | None, Output],
        context: TaskContext,
        side_inputs: Sequence[Any] = (),
        user_state: Any = None,
    ) -> None:
        self.step = step
        self.context = context
        self.metrics = context.metrics_of(step.name)
        self.side_inputs = side_inputs
        self.user_state = user_state
        self.outputs = outputs
        self.emits_timestamped = False
        self._sealed = DoFn.BundleFinalizerParam()
        _, defaults = step.dofn.fn.get_function_arguments("process")
        param = DoFn.WindowedValueParam
        self._sees_windows = any(isinstance(d, type(param)) and d == param for d in defaults)
        # Beam's wrapper of a mere function has nothing to set up, to begin or to end, unless a parameter has.
        asks = any(isinstance(default, type(param)) for default in defaults)
        self._is_call = type(step.dofn.fn) is CallableWrapperDoFn and not asks

    @functools.cached_property
    def runner(self) -> Any:
        """Beam's runner of the DoFn. It takes longer to make than most steps of a wide pipeline to run, and those that
        are compiled whole do not need it.
        """
        step = self.step
        converter = getattr(step.dofn.fn, "output_batch_converter", None)
        receivers = _Receivers(
            {tag: BatchOutput(out, converter) if converter else out for tag, out in self.outputs.items()}
        )
        if checks := constraints_of(step.dofn.fn):
            receivers = _Receivers({tag: CheckedOutput(out, checks) for tag, out in receivers.items()})
        # By position: keyword names of this internal constructor differ between Beam versions.
        return self.guarded(
            DoFnRunner,
            step.dofn.fn, list(step.dofn.args), dict(step.dofn.kwargs), list(self.side_inputs), step.dofn.windowing,
            receivers, None, None, None, None, None, str(step.id), self.user_state,
        )  # fmt: skip

    def guarded(self, function: Any, *args: Any) -> Any:
        """Calls user code of this step: metrics go to the step, and what it raises names the step."""
        tracker = self.context.tracker
        outer = tracker.container
        tracker.container = self.metrics
        try:
            return function(*args)
        except RAISED as error:
            self.fail(error)
        finally:
            tracker.container = outer

    def fail(self, error: BaseException) -> NoReturn:
        """Raises what the user's code raised as an error that names this step."""
        raise_step_error(self.step.name, error, self.context)

    def handle_special(self, value: Any, stamp: Any, windows: Any, pane: Any) -> None:
        """Hands on an output with a tag, a timestamp or windows about it, as Beam's output handler does."""
        tag = None
        if isinstance(value, TaggedOutput):
            tag, value = value.tag, value.value
            if not isinstance(tag, str):
                raise TypeError(f"In {self.step.name}, tag {tag} is not a string")
        if isinstance(value, TimestampedValue):
            self.emits_timestamped = True
            assign = self.step.dofn.windowing.windowfn.assign
            assigned = assign(WindowFn.AssignContext(value.timestamp, value.value))
            value = WindowedValue(value.value, value.timestamp, tuple(assigned) * len(windows))
        elif isinstance(value, WindowedValue):
            if len(windows) != 1:
                value = WindowedValue(
                    value.value, value.timestamp, tuple(value.windows) * len(windows), value.pane_info
                )
        else:
            value = WindowedValue(value, stamp, windows, pane)
        output = self.outputs.get(tag)
        if output is not None:
            output.receive(value)

    def open(self) -> None:
        if not self._is_call:
            self.guarded(self.runner.setup)

    def start_bundle(self) -> None:
        if not self._is_call:
            self.guarded(self.runner.start)

    def process(self, value: WindowedValue) -> None:
        if self._sees_windows and value.windows.__class__ is not list:
            # As Beam's window assignment leaves them, which is what users of the parameter have come to compare with.
            value = WindowedValue(value.value, value.timestamp, list(value.windows), value.pane_info)
        self.guarded(self.runner.process, value)

    def finish_bundle(self) -> None:
        if not self._is_call:
            self.guarded(self.runner.finish)

    def on_barrier(self) -> None:
        if "runner" not in vars(self):
            return
        finalizer = self.runner.bundle_finalizer_param
        if finalizer.has_callbacks():
            for callback in finalizer._callbacks:
                self._sealed.register(callback)
            finalizer.reset()

    def finalize_bundle(self) -> None:
        if self._sealed.has_callbacks():
            self.guarded(self._sealed.finalize_bundle)
            self._sealed.reset()

    def close(self) -> None:
        if not self._is_call:
            self.guarded(self.runner.teardown)


class BatchOp(ParDoOp):
    """A DoFn with ``process_batch``: takes blocks as batches of its own type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.converter = self.step.dofn.fn.input_batch_converter
        self._kept: list[WindowedValue] = []

    def takes(self, converter: Any) -> bool:
        """Whether batches of this converter can be taken as they are."""
        return bool(self.converter == converter)

    def process(self, value: WindowedValue) -> None:
        self._kept.append(value)
        if len(self._kept) >= BATCH_ROWS:
            self._flush()

    def process_block(self, block: Block) -> None:
        if block.uniform and len(block):
            self._flush()
            self._send(block.values, block.timestamps, block.windows, block.panes)
        else:
            super().process_block(block)

    def process_batch(self, batch: Any) -> None:
        """Takes a batch of this DoFn's own type."""
        self._flush()
        self.guarded(self.runner.process_batch, batch)

    def finish_bundle(self) -> None:
        self._flush()
        super().finish_bundle()

    def _flush(self) -> None:
        kept, self._kept = self._kept, []
        groups: dict[Any, list[Any]] = {}
        for value in kept:
            where = (value.timestamp, tuple(value.windows), value.pane_info)
            groups.setdefault(where, []).append(value.value)
        for where, values in groups.items():
            self._send(values, *where)

    def _send(self, values: list[Any], timestamp: Any, windows: Any, pane: Any) -> None:
        for start in range(0, len(values), BATCH_ROWS):
            batch = self.converter.produce_batch(values[start : start + BATCH_ROWS])
            self.guarded(
                self.runner.process_batch, HomogeneousWindowedBatch.of(batch, timestamp, tuple(windows), pane)
            )


class WindowOp(Op):
    """Assigns windows anew."""

    def __init__(self, step: spec.AssignWindows, output: Output, context: TaskContext) -> None:
        self.step = step
        self.output = output
        self.context = context
        self.metrics = context.metrics_of(step.name)
        fn = step.windowing.windowfn
        self._assign = assigner(fn) if type(fn) in (GlobalWindows, *KNOWN_WINDOWS) else None
        self._assign_anew = fn.assign

    def process(self, value: WindowedValue) -> None:
        for window in value.windows:
            try:
                if self._assign is not None:
                    windows = self._assign(value.timestamp, value.value)
                else:
                    windows = self._assign_anew(WindowFn.AssignContext(value.timestamp, value.value, window))
            except RAISED as error:
                raise_step_error(self.step.name, error, self.context)
            self.output.receive(WindowedValue(value.value, value.timestamp, tuple(windows), value.pane_info))


class CombineValuesOp(Op):
    """A CombineFn over values that came grouped."""

    def __init__(self, step: spec.CombineValues, output: Output, context: TaskContext) -> None:
        self.step = step
        self.output = output
        self.context = context
        self.metrics = context.metrics_of(step.name)

    def open(self) -> None:
        with naming(self.step.name, self.context):
            self.step.combine_fn.setup()  # type: ignore[attr-defined]

    def process(self, value: WindowedValue) -> None:
        try:
            with self.context.tracker.within(self.metrics):
                key, values = value.value
                result = self.step.combine_fn.apply(values)  # type: ignore[attr-defined]
        except RAISED as error:
            raise_step_error(self.step.name, error, self.context, keyed=True)
        self.output.receive(value.with_value((key, result)))

    def close(self) -> None:
        with naming(self.step.name, self.context):
            self.step.combine_fn.teardown()  # type: ignore[attr-defined]
