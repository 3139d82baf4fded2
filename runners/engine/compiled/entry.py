"""Puts compiled functions in front of the general operators of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine import spec
from sage.runners.engine.blocks import Block
from sage.runners.engine.bounded import BoundedReadOp
from sage.runners.engine.combine import PreCombineOp
from sage.runners.engine.compiled.generate import Generator
from sage.runners.engine.compiled.recognise import PlainCall, plain_call, read_call
from sage.runners.engine.context import TaskContext
from sage.runners.engine.ops import Op, Output, ParDoOp, WindowOp, raise_step_error
from sage.runners.engine.spec import CollectionId


def compile_stage(
    stage: spec.Stage, outputs: Mapping[CollectionId, Output], entry: Output | None, context: TaskContext
) -> None:
    """Gives the stage's entry and each output of a general step a compiled front, where plain steps consume it.

    Writes which way each step runs into the job's ``paths``.
    """
    job = context.job
    for step in stage.steps:
        if isinstance(step, spec.ParDo):
            job.paths.setdefault(step.name, "general")
    if job.execution_path == "general":
        return
    wanted = _WANTED[job.execution_path]
    calls = {step.id: call for step in stage.fused if (call := plain_call(step)) is not None and wanted(call)}
    anchors = [outputs[collection] for step in stage.steps for collection in step.outputs.values()]
    if entry is not None:
        (op,) = entry.consumers
        call = read_call(op.read) if isinstance(op, BoundedReadOp) else plain_call(stage.root)
        if call is not None and wanted(call):
            calls[stage.root.id] = call
            anchors.insert(0, entry)
    inside: set[CollectionId] = set()
    for output in anchors:
        if output.collection in inside or not any(_compilable(op, calls) for op in output.consumers):
            continue
        front = CompiledFront(output, calls, context)
        output.front = front
        inside |= {c for s in front.steps for c in s.outputs.values()}
        for compiled in front.steps:
            call = calls.get(compiled.id)
            job.paths[compiled.name] = "bound" if call is not None and _is_bound(call) else "compiled"


def _is_bound(call: PlainCall) -> bool:
    return call.keyed or bool(call.specials)


_WANTED: dict[str, Callable[[PlainCall], bool]] = {
    "auto": lambda call: True,
    "compiled": lambda call: not _is_bound(call),
    "bound": _is_bound,
}


def _compilable(op: Op, calls: dict[spec.StepId, PlainCall]) -> bool:
    if isinstance(op, ParDoOp):
        return op.step.id in calls
    return isinstance(op, PreCombineOp | WindowOp)


class CompiledFront:
    """Takes what an output receives, and runs it through the compiled functions of the output's consumers.

    Two functions are made of the same steps: one for values that share timestamp, window and pane, one for values
    beside columns of them.
    """

    def __init__(self, output: Output, calls: dict[spec.StepId, PlainCall], context: TaskContext) -> None:
        self._context = context
        generator = Generator(calls, mixed=False)
        self._uniform = generator.function(output)
        self._mixed = Generator(calls, mixed=True).function(output)
        self.steps = generator.steps
        self._codes = {f.__code__: f.step_of_line for f in (self._uniform, self._mixed)}
        for code, lines in self._codes.items():
            context.tracker.register(
                code, {number: context.metrics_of(name) for number, name in lines.items()}
            )

    def process(self, value: WindowedValue) -> None:
        """Takes one element."""
        windows = value.windows
        tracker = self._context.tracker
        outer, tracker.container = tracker.container, None
        try:
            if len(windows) == 1:
                self._uniform((value.value,), value.timestamp, windows, value.pane_info)
            else:
                self._mixed((value.value,), (value.timestamp,), (windows,), (value.pane_info,))
        except Exception as error:
            self._fail(error)
        finally:
            tracker.container = outer

    def process_block(self, block: Block) -> None:
        """Takes a block."""
        tracker = self._context.tracker
        outer, tracker.container = tracker.container, None
        try:
            if block.uniform and len(block.windows) == 1:
                self._uniform(block.values, block.timestamps, block.windows, block.panes)
            else:
                self._mixed(block.values, *block.columns())
        except Exception as error:
            self._fail(error)
        finally:
            tracker.container = outer

    def _fail(self, error: Exception) -> None:
        name = self._step_of(error.__traceback__)
        if name is None:
            raise error
        raise_step_error(name, error, self._context)

    def _step_of(self, traceback: TracebackType | None) -> str | None:
        while traceback is not None:
            lines: Any = self._codes.get(traceback.tb_frame.f_code)
            if lines is not None:
                return lines.get(traceback.tb_lineno)  # type: ignore[no-any-return]
            traceback = traceback.tb_next
        return None
