"""Puts compiled functions in front of the general operators of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import CodeType, TracebackType
from typing import Any

from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.codegen.generate import Generator
from sage.runners.engine.codegen.recognise import NotPlain, PlainCall, plain_call, read_call, timer_calls
from sage.runners.engine.codegen.scope import Columns
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import NO_FIRING, Block, TimestampColumn
from sage.runners.engine.core.spec import CollectionId
from sage.runners.engine.core.windows import EVERYWHERE
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import RAISED, raise_step_error
from sage.runners.engine.operators.base.operator import Op, Output, ParDoOp, WindowOp
from sage.runners.engine.operators.base.stage_output import StageOutput
from sage.runners.engine.operators.grouping.combine import PreCombineOp
from sage.runners.engine.operators.keyed.timers import Timer
from sage.runners.engine.operators.reading.bounded import BoundedReadOp


def compile_stage(
    stage: spec.Stage, outputs: Mapping[CollectionId, Output], entry: Output | None, context: TaskContext
) -> None:
    """Gives the stage's entry and each output of a general step a compiled front, where plain steps consume it.

    Writes which way each step runs into the job's ``paths``, and why it is the general one into its ``reasons``.
    """
    job, asked = context.job, context.job.options.execution_path
    calls: dict[spec.StepId, PlainCall] = {}
    for step in stage.steps:
        call = NotPlain(f"--execution_path={asked}") if asked == "general" else _call_of(step, stage, entry)
        if isinstance(call, NotPlain):
            reason = call.reason
        elif _WANTED[asked](call):
            calls[step.id], reason = call, _TOO_DEEP
        else:
            reason = f"--execution_path={asked}"
        if isinstance(step, spec.ParDo):
            job.paths.setdefault(step.name, "general")
            job.reasons.setdefault(step.name, reason)
    if asked != "general":
        _put_fronts(stage, outputs, entry, calls, context)


_TOO_DEEP = "the steps ahead of it in its stage are nested as deep as Python compiles: put a Reshuffle between them"


def _call_of(step: spec.Step, stage: spec.Stage, entry: Output | None) -> PlainCall | NotPlain:
    if step is stage.root and entry is not None:
        (op,) = entry.consumers
        if isinstance(op, BoundedReadOp):
            return read_call(op.read)
    return plain_call(step)


def _put_fronts(
    stage: spec.Stage,
    outputs: Mapping[CollectionId, Output],
    entry: Output | None,
    calls: dict[spec.StepId, PlainCall],
    context: TaskContext,
) -> None:
    job = context.job
    anchors = [outputs[collection] for step in stage.steps for collection in step.outputs.values()]
    if entry is not None and stage.root.id in calls:
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
            job.reasons.pop(compiled.name, None)


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

    Several functions are made of the same steps, each for what may come beside the values (`Columns`). They are made
    anew when a step turns out to give timestamped values.
    """

    def __init__(self, output: Output, calls: dict[spec.StepId, PlainCall], context: TaskContext) -> None:
        self._output = output
        self._context = context
        self._calls = dict(calls)
        self._generation = 0
        self._codes: dict[CodeType, dict[int, str]] = {}
        self.steps: list[spec.Step] = []
        self._functions: dict[Columns, Any] = {}
        self._on_timers: Any = None
        self._keyed = next((op for op in output.consumers if isinstance(op, ParDoOp) and op.step.stateful), None)
        self._callbacks = timer_calls(self._keyed.step.dofn.fn) if self._keyed is not None else None
        self._compile()
        self._ops = {op.step.id: op for op in _plain_ops(output, {step.id for step in self.steps} & set(calls))}

    def _compile(self) -> None:
        self._generation += 1
        self._functions.clear()
        self._on_timers = None
        self._uniform = self._function(Columns.NONE)

    def _function(self, columns: Columns) -> Any:
        """The function for blocks of these columns, made when the first one comes."""
        found = self._functions.get(columns)
        if found is None:
            generator = Generator(self._calls, columns, self._taker())
            found = self._functions[columns] = self._known(generator.function(self._output))
            self.steps = generator.steps
        return found

    def _known(self, function: Any) -> Any:
        """The function, with its lines known to what reports errors and what counts metrics."""
        lines = function.step_of_line
        self._codes[function.__code__] = lines
        self._context.tracker.register(
            function.__code__, {number: self._context.metrics_of(name) for number, name in lines.items()}
        )
        return function

    def _learn(self) -> None:
        """Compiles anew if a step gave timestamped values that was not expected to."""
        learned = [id for id, op in self._ops.items() if op.emits_timestamped and not self._calls[id].stamps]
        for id in learned:
            self._calls[id] = replace(self._calls[id], stamps=True)
        if learned:
            self._compile()

    def _taker(self) -> Any:
        """What code of the present generation calls when it meets what it is not made for."""
        generation = self._generation

        def take_over(step: spec.StepId, rest: Iterator[Any], stamp: Any, windows: Any, pane: Any) -> None:
            self._learn()
            if self._generation > generation and len(windows) == 1:
                generator = Generator(self._calls, Columns.NONE, self._taker())
                run = self._known(generator.rest_function(self._ops[step], self._calls[step]))
                run(rest, stamp, windows, pane)

        return take_over

    def process(self, value: WindowedValue) -> None:
        """Takes one element."""
        windows = tuple(value.windows)  # a list would stand for a column of them
        tracker = self._context.tracker
        outer, tracker.container = tracker.container, None
        try:
            if len(windows) == 1:
                self._uniform((value.value,), value.timestamp, windows, value.pane_info)
            else:
                run = self._function(Columns.ALL)
                run((value.value,), (value.timestamp,), (windows,), (value.pane_info,))
        except RAISED as error:
            self._fail(error)
        finally:
            tracker.container = outer

    def process_block(self, block: Block) -> None:
        """Takes a block."""
        tracker = self._context.tracker
        outer, tracker.container = tracker.container, None
        try:
            stamped = isinstance(block.timestamps, TimestampColumn)
            if (block.uniform or block.stamped) and len(block.windows) == 1:
                run = self._function(Columns.STAMPS if stamped else Columns.NONE)
                run(block.values, block.timestamps, block.windows, block.panes)
            else:
                self._function(Columns.ALL_STAMPS if stamped else Columns.ALL)(block.values, *block.columns())
        except RAISED as error:
            self._fail(error)
        finally:
            tracker.container = outer
        self._learn()

    @property
    def fires(self) -> bool:
        """Whether timers of the keyed step behind the output can be called back here."""
        return self._callbacks is not None

    def fire(self, timers: Iterable[Timer]) -> None:
        """Calls back timers of the keyed step behind the output."""
        if self._on_timers is None:
            generator = Generator(self._calls, Columns.NONE, self._taker())
            self._on_timers = self._known(generator.timers_function(self._keyed, self._callbacks or {}))
        tracker = self._context.tracker
        outer, tracker.container = tracker.container, None
        try:
            self._on_timers(timers, None, EVERYWHERE, NO_FIRING)
        except RAISED as error:
            self._fail(error)
        finally:
            tracker.container = outer

    def _fail(self, error: BaseException) -> None:
        name = self._step_of(error.__traceback__)
        if name is None:
            raise error
        keyed = any(isinstance(step, spec.PreCombine) and step.name == name for step in self.steps)
        raise_step_error(name, error, self._context, keyed)

    def _step_of(self, traceback: TracebackType | None) -> str | None:
        while traceback is not None:
            lines = self._codes.get(traceback.tb_frame.f_code)
            if lines is not None:
                return lines.get(traceback.tb_lineno)
            traceback = traceback.tb_next
        return None


def _plain_ops(output: Output, steps: set[spec.StepId]) -> Iterator[Any]:
    """The operators behind an output whose steps are among these."""
    for op in output.consumers:
        if isinstance(op, StageOutput) or op.step.id not in steps:
            outputs: Iterable[Output] = [op.output] if isinstance(op, WindowOp) else []
        else:
            yield op
            outputs = op.outputs.values()  # type: ignore[attr-defined]
        for inner in outputs:
            yield from _plain_ops(inner, steps)
