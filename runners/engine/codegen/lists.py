"""Steps whose outputs go to what takes lists: they are gathered as they come, and looked at many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sage.runners.engine.codegen.outputs import PlainClasses, write_whole
from sage.runners.engine.codegen.recognise import PlainCall, Shape
from sage.runners.engine.codegen.scope import ElementScope
from sage.runners.engine.codegen.sinks import BULK
from sage.runners.engine.codegen.source_writer import SourceWriter
from sage.runners.engine.core import spec
from sage.runners.engine.operators.base.operator import Op
from sage.runners.engine.operators.base.stage_output import StageOutput


class ListSplitter:
    """Cuts what was gathered into lists of ordinary elements; others are handed on by themselves, ahead of them.

    State: the classes that were met; whether the last call met an element that is not ordinary.

    Args:
        special: hands on an element that is not ordinary, with its timestamp, windows and pane.
    """

    def __init__(self, special: Callable[[Any, Any, Any, Any], None]) -> None:
        self._special = special
        self._known = PlainClasses()
        self.missed = False

    def of(self, rows: list[Any], room: Callable[[], int], *columns: Any) -> Iterator[list[Any]]:
        """The ordinary elements in lists of what there is ``room`` for then (count), or one of up to twice as many."""
        known, self.missed = self._known, False
        if not known.issuperset(map(type, rows)):
            rows = self._sorted_out(rows, columns)
        if len(rows) <= 2 * room():
            if rows:
                yield rows
            return
        at = 0
        while at < len(rows):
            end = at + room()
            yield rows[at:end]
            at = end

    def _sorted_out(self, rows: list[Any], column_iter: tuple[Any, ...]) -> list[Any]:
        plain = []
        for value in rows:
            if type(value) in self._known or self._known.learn(value) is not None:
                plain.append(value)
            else:
                self.missed = True
                self._special(value, *column_iter)
        return plain


@dataclass(frozen=True)
class ListConsumer:
    """What takes the lists of an output.

    Attributes:
        take: the source of the call that takes the list of a name.
        room: the source of what tells how many elements the next list may have (count).
        step: the step whose user code that runs; None at the edge of a stage.
    """

    take: Callable[[str], str]
    room: str
    step: spec.Step | None = None

    @property
    def steps(self) -> list[spec.Step]:
        """The step, if there is one."""
        return [] if self.step is None else [self.step]


def list_consumer_of(
    w: SourceWriter, op: Any, call: PlainCall, scope: ElementScope, calls: Mapping[spec.StepId, PlainCall]
) -> ListConsumer | None:
    """What takes the outputs of a step as lists; None if they have to be looked at one by one.

    They need not where all elements of a call have the same timestamp, windows and pane, and one consumer takes lists.
    """
    varies = scope.stamps_vary or scope.windows_vary or scope.panes_vary
    if w.full or varies or call.stamps or call.shape not in (Shape.MAP, Shape.FLAT) or list(op.outputs) != [None]:
        return None
    consumers = op.outputs[None].consumers
    return _taker(w, consumers[0], scope, calls) if len(consumers) == 1 else None


def _taker(w: SourceWriter, op: Op, scope: ElementScope, calls: Mapping[spec.StepId, PlainCall]) -> ListConsumer | None:
    if isinstance(op, StageOutput):
        take, column_iter = w.bind("take", op.append), f"{scope.stamp}, {scope.windows}, {scope.pane}"
        return ListConsumer(lambda rows: f"{take}({rows}, {column_iter})", w.bind("room", op.capacity))
    call = calls.get(op.step.id)
    if call is None or call.shape is not Shape.BULK:
        return None
    take = w.bind("take", call.function)
    return ListConsumer(lambda rows: f"{take}({rows})", w.bind("room", lambda: BULK), op.step)


def write_lists(
    w: SourceWriter,
    op: Any,
    call: PlainCall,
    called: str,
    scope: ElementScope,
    taker: ListConsumer,
    take_over: Callable[..., None],
) -> None:
    """The call of a step whose outputs go on as lists, and what sends them there.

    Args:
        w: writes the source.
        op: the step.
        call: what is called.
        called: the source of that.
        here: the element.
        taker: takes the lists.
        take_over: the generator's.
    """
    name, output = op.step.name, op.outputs[None]
    gathered = _ListBuffer(w, op, scope, taker)
    rows = gathered.rows
    if call.shape is Shape.MAP:
        w.line(f"{rows}.append({called})", name)
        gathered.flush()
    else:
        results, value = w.fresh("r"), w.fresh("v")
        w.line(f"{results} = {called}", name)
        with w.block(f"if {w.bind('type', type)}({results}) is {w.bind('list', list)}:"):
            w.line(f"{rows} += {results}")
        with w.block(f"elif {results} is not None:"):
            whole = write_whole(w, results, call.checked, name)
            rest = f"{w.bind('step', op.step.id)}, {whole}, {scope.stamp}, {scope.windows}, {scope.pane}"
            with w.block(f"for {value} in {whole}:", name):
                w.line(f"{rows}.append({value})")
                gathered.flush(f"{w.bind('take_over', take_over)}({rest})")
        gathered.flush()
    gathered.end(f"{w.bind('out', output)}.count += {gathered.number}")


class _ListBuffer:
    """Writes what sends the gathered outputs of a step on: between two elements when they are many, and at the end.

    Attributes:
        rows: the name of the list of what was gathered.
        number: the name of how many were sent (count).
    """

    def __init__(self, w: SourceWriter, op: Any, scope: ElementScope, taker: ListConsumer) -> None:
        self._w, self._name = w, op.step.name
        self.rows, self.number = w.fresh("b"), w.fresh("n")
        w.start(f"{self.rows} = []")
        w.start(f"{self.number} = 0")
        self._limit = w.fresh("n")
        self._ask = f"{self._limit} = {taker.room}()"
        w.start(self._ask)
        portions = ListSplitter(op.handle_special)
        self._portions = w.bind("portions", portions)
        cut = f"{w.bind('cut', portions.of)}({self.rows}, {taker.room}, {scope.stamp}, {scope.windows}, {scope.pane})"
        self._send = (
            (f"for {self.rows} in {cut}:", self._name),
            (f"    {self.number} += len({self.rows})", None),
            (f"    {taker.take(self.rows)}", taker.step and taker.step.name),
        )

    def flush(self, missed: str = "") -> None:
        """Sends what was gathered if it is enough; ``missed`` is to run if some of it was not ordinary."""
        w = self._w
        with w.block(f"if len({self.rows}) >= {self._limit}:"):
            for line in self._send:
                w.line(*line)
            w.line(f"{self.rows} = []")
            w.line(self._ask)
            if missed:
                with w.block(f"if {self._portions}.missed:"):
                    w.line(missed, self._name)

    def end(self, count: str) -> None:
        """Sends the rest, and runs ``count``."""
        for line in self._send:
            self._w.end(*line)
        self._w.end(count)
