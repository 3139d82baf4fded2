"""Generates the nested loops of a chain of plain steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.windowed_value import WindowedValue, create

from sage.runners.engine.codegen.inline import is_identity, makes_ordinary, paired_with
from sage.runners.engine.codegen.keyed import KeyScope, write_key, write_states, write_timer
from sage.runners.engine.codegen.lists import list_consumer_of, write_lists
from sage.runners.engine.codegen.outputs import PlainClasses, write_whole
from sage.runners.engine.codegen.recognise import PlainCall, Shape, SideArg, Special, StateArg
from sage.runners.engine.codegen.scope import Columns, ElementScope
from sage.runners.engine.codegen.sinks import write_bulk, write_combine, write_edge
from sage.runners.engine.codegen.source_writer import SourceWriter
from sage.runners.engine.codegen.specials import write_specials
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import TimestampColumn, timestamp_of
from sage.runners.engine.core.windows import EVERYWHERE, KNOWN_WINDOWS, assigner, slots_of
from sage.runners.engine.operators.base.operator import Op, Output, WindowOp
from sage.runners.engine.operators.base.stage_output import StageOutput
from sage.runners.engine.operators.grouping.combine import PreCombineOp

_HEADER = "def run(values, stamps, windows, panes...):"


class Generator:
    """Writes one function for the tree of steps behind an output.

    Args:
        calls: the plain steps, by step id.
        columns: what the function is made for.
        take_over: called with (step id, iterator, timestamp, windows, pane) when an output of that iteration, or
            of a step behind it, was not what this code is made for; it may use up the iterator by other code.
    """

    def __init__(
        self, calls: dict[spec.StepId, PlainCall], columns: Columns, take_over: Callable[..., None]
    ) -> None:
        self._calls = calls
        self._columns = columns
        self._take_over = take_over
        self._writer = SourceWriter()
        self._timed = False
        self.steps: list[spec.Step] = []

    def function(self, output: Output) -> Any:
        """The function ``run(values, stamps, windows, panes)`` of an output's consumers."""
        if self._columns is Columns.STAMPS:
            return self._stamps_function(output)
        if self._columns is Columns.ALL_STAMPS:
            when = f"{self._writer.bind('when', timestamp_of)}(t)"
            head = "for v, t, w, p in zip(values, stamps.micros, windows, panes):"
            scope = ElementScope.mixed_stamped(when)
        elif self._columns is Columns.ALL:
            head, scope = "for v, t, w, p in zip(values, stamps, windows, panes):", ElementScope.mixed()
        else:
            head, scope = "for v in values:", ElementScope.uniform()
        return self._written(output, head, scope)

    def _stamps_function(self, output: Output) -> Any:
        """Timestamps are found by the position of the value, if only the rare value needs one; else they go along."""
        self._writer.start("values = iter(values)")
        finder = f"{self._writer.bind('at', TimestampColumn.for_values)}(stamps, values)"
        found = replace(ElementScope.stamped(finder), count="len(stamps)")
        run = self._written(output, "for v in values:", found)
        if not self._timed:
            return run
        self._writer, self.steps = SourceWriter(), []
        made = f"{self._writer.bind('when', timestamp_of)}(t)"
        return self._written(output, "for v, t in zip(values, stamps.micros):", ElementScope.stamped(made))

    def _written(self, output: Output, head: str, scope: ElementScope) -> Any:
        w = self._writer
        with w.block(head):
            self._consumers(output, scope)
        return w.build(_HEADER, "<sage stage>")

    def _stamp(self, scope: ElementScope) -> str:
        """The source of the timestamp where every element needs it."""
        self._timed |= bool(scope.micros)
        return scope.stamp

    def rest_function(self, op: Any, call: PlainCall) -> Any:
        """The function ``run(values, stamps, windows, panes)`` of what one call of a step has still to give."""
        w, number = self._writer, self._writer.fresh("n")
        w.start(f"{number} = 0")
        scope = replace(ElementScope.uniform(), count=number)
        with w.block(f"for {number}, v in {w.bind('enumerate', enumerate)}(values, 1):", op.step.name):
            self._outputs(op, call, scope)
        return w.build(_HEADER, "<sage rest of a call>")

    def timers_function(self, op: Any, callbacks: Mapping[str, PlainCall]) -> Any:
        """The function ``run(timers, None, windows, panes)`` of timers of a keyed step that are due.

        Args:
            op: the step.
            callbacks: what to call, by the name of the timer.
        """
        w, first = self._writer, "if"
        with w.block("for v in values:"):
            scope, key_scope = write_timer(w, op)
            for name, call in callbacks.items():
                with w.block(f"{first} v.spec.name == {w.bind('timer', name)}:"):
                    arguments = ", ".join(self._own(op, call, scope, key_scope))
                    self._results(op, call, f"{w.bind('f', call.function)}({arguments})", scope)
                first = "elif"
        return w.build(_HEADER, "<sage timers>")

    def _micros(self, scope: ElementScope) -> str:
        """The source of the timestamp in microseconds."""
        self._timed |= bool(scope.micros)
        return scope.micros or f"{scope.stamp}.micros"

    def _consumers(self, output: Output, scope: ElementScope) -> None:
        if not output.consumers:
            self._writer.line("pass")
        for op in output.consumers:
            self._consumer(op, scope)

    def _made(self, output: Output, scope: ElementScope, counted: bool) -> None:
        """What stands where an output's element is at hand; counts it where its number is not known otherwise."""
        w = self._writer
        if counted:
            scope = replace(scope, count=w.fresh("n"))
            w.start(f"{scope.count} = 0")
            w.line(f"{scope.count} += 1")
        w.end(f"{w.bind('out', output)}.count += {scope.count}")
        self._consumers(output, scope)

    def _consumer(self, op: Op, scope: ElementScope) -> None:
        if isinstance(op, StageOutput):
            self._timed |= bool(scope.micros)
            write_edge(self._writer, op, scope)
            return
        call = self._calls.get(op.step.id)
        if self._writer.full:
            self._general(op, scope)
        elif call is not None:
            self.steps.append(op.step)
            self._plain(op, call, scope)
        elif isinstance(op, WindowOp) and self._window(op, scope):
            self.steps.append(op.step)
        elif isinstance(op, PreCombineOp):
            self.steps.append(op.step)
            write_combine(self._writer, op, scope)
        else:
            self._general(op, scope)

    def _general(self, op: Op, scope: ElementScope) -> None:
        w = self._writer
        process, make = w.bind("process", op.process), w.bind("make", create if scope.micros else WindowedValue)
        self._timed |= bool(scope.micros)
        w.line(f"{process}({make}({scope.value}, {scope.micros or scope.stamp}, {scope.windows}, {scope.pane}))")

    # Plain calls.

    def _plain(self, op: Any, call: PlainCall, scope: ElementScope) -> None:
        w = self._writer
        if not call.sees_window and all(view.is_globally_windowed() for view in op.side_inputs):
            self._call(op, call, scope, None)
        elif scope.single:
            self._call(op, call, scope, f"{scope.windows}[0]")
        else:
            one, windows = w.fresh("o"), w.fresh("w")
            with w.block(f"for {one} in {scope.windows}:"):
                w.line(f"{windows} = ({one},)")
                self._call(op, call, replace(scope, windows=windows, windows_vary=True, single=True), one)

    def _side(self, op: Any, side: SideArg, scope: ElementScope, one: str | None) -> str:
        """The source of a side input's view; one that is the same for the whole call is looked up once."""
        w = self._writer
        view = w.bind("view", op.side_inputs[side.index])
        name = w.fresh("side")
        if one is not None and (scope.windows_vary or scope.windows != "windows"):
            last = w.fresh("last")
            w.start(f"{last} = None")
            with w.block(f"if {one} is not {last}:"):
                w.line(f"{last} = {one}")
                w.line(f"{name} = {view}[{one}]", op.step.name)
            return name
        where = w.bind("everywhere", EVERYWHERE[0]) if one is None else "windows[0]"
        w.start(f"{name} = {view}[{where}]", op.step.name)
        return name

    def _arguments(self, op: Any, call: PlainCall, scope: ElementScope, one: str | None) -> list[str]:
        """The sources of all arguments but a leading element."""
        w = self._writer

        def constant_or_side(value: Any) -> str:
            return self._side(op, value, scope, one) if isinstance(value, SideArg) else w.bind("a", value)

        parts = [constant_or_side(arg) for arg in call.args]
        named = [w.keyword(name, constant_or_side(value)) for name, value in call.kwargs.items()]
        key = write_key(w, op, scope) if call.keyed else ""
        parts += self._own(op, call, scope, KeyScope(key, str(one)))
        return [*parts, *named]

    def _own(self, op: Any, call: PlainCall, scope: ElementScope, key_scope: KeyScope) -> list[str]:
        """The sources of the arguments that take something of the element's or the timer's own."""
        if not {Special.TIMESTAMP, Special.WINDOWED}.isdisjoint(call.specials.values()):
            self._stamp(scope)
        own = write_specials(self._writer, op, call, scope, key_scope)
        found = {name: own[what] for name, what in call.specials.items() if isinstance(what, Special)}
        states = {name: what for name, what in call.specials.items() if isinstance(what, StateArg)}
        if states:
            by_clock = (what.timer and not TimeDomain.is_event_time(what.spec.time_domain) for what in states.values())
            micros = self._micros(scope) if any(by_clock) else ""
            found.update(write_states(self._writer, op, states, key_scope, scope, micros))
        return [found[name] if call.placed else self._writer.keyword(name, found[name]) for name in call.specials]

    def _call(self, op: Any, call: PlainCall, scope: ElementScope, one: str | None) -> None:
        w, name = self._writer, op.step.name
        if list(op.outputs) == [None] and (constant := paired_with(call)) is not None:
            self._pair(op.outputs[None], scope, *constant)
            return
        if is_identity(call):
            # What is behind may take a timestamp off; other consumers want the element as it came.
            w.line(f"{(same := w.fresh('v'))} = {scope.value}")
            self._outputs(op, call, replace(scope, value=same))
            return
        if call.shape is Shape.BULK:
            write_bulk(w, call.function, scope.value, name)
            return
        arguments = self._arguments(op, call, scope, one)
        given = [scope.value, *arguments] if call.leads else arguments
        called = f"{w.bind('f', call.function)}({', '.join(given)})"
        if (taker := list_consumer_of(w, op, call, scope, self._calls)) is not None:
            write_lists(w, op, call, called, scope, taker, self._take_over)
            self.steps += taker.steps
            return
        if call.shape is Shape.FILTER:
            with w.block(f"if {called}:", name):
                self._made(op.outputs[None], scope, counted=True)
            return
        if call.shape is Shape.MAP:
            value = w.fresh("v")
            w.line(f"{value} = {called}", name)
            self._outputs(op, call, replace(scope, value=value))
            return
        self._results(op, call, called, scope)

    def _results(self, op: Any, call: PlainCall, called: str, scope: ElementScope) -> None:
        """The call of what gives an iterable of outputs, or None, and the loop over them."""
        w, name, value = self._writer, op.step.name, self._writer.fresh("v")
        results, number = w.fresh("r"), w.fresh("n")
        w.line(f"{results} = {called}", name)
        w.start(f"{number} = 0")
        with w.block(f"if {results} is not None:"):
            whole = write_whole(w, results, call.checked, name)
            rest = f"{w.bind('step', op.step.id)}, {whole}, {scope.stamp}, {scope.windows}, {scope.pane}"
            inner = replace(scope, value=value, count=number, rest=rest)
            with w.block(f"for {value} in {whole}:", name):
                w.line(f"{number} += 1")
                self._outputs(op, call, inner)

    def _pair(self, output: Output, scope: ElementScope, constant: Any) -> None:
        """The value and a constant: an ordinary element, which is put together only for who wants it whole."""
        w = self._writer
        pair = f"({scope.value}, {w.bind('a', constant)})"
        if not all(isinstance(op, PreCombineOp) for op in output.consumers):
            w.line(f"{(whole := w.fresh('v'))} = {pair}")
            pair = whole
        self._made(output, replace(scope, value=pair), counted=False)

    def _outputs(self, op: Any, call: PlainCall, scope: ElementScope) -> None:
        """What a plain call gave: an ordinary element, or one with a tag, a timestamp or windows about it."""
        w, value, name = self._writer, scope.value, op.step.name
        general = f"{w.bind('special', op.handle_special)}({value}, {scope.stamp}, {scope.windows}, {scope.pane})"
        main = op.outputs.get(None)
        tagged = {tag: out for tag, out in op.outputs.items() if tag is not None}
        if main is not None and not tagged and makes_ordinary(call):
            self._made(main, scope, counted=False)
            return
        if call.stamps and main is not None and not tagged and _assigns(op.step):
            self._stamped(op, scope, main, general)
            return
        missed = w.fresh("n")  # those that go the general way are counted there
        w.start(f"{missed} = 0")
        with w.block(f"if {w.ordinary(value, PlainClasses())}:"):
            if main is None:
                w.line("pass")
            else:
                self._made(main, replace(scope, count=f"({scope.count} - {missed})"), counted=bool(tagged))
        with w.block("else:"):
            if tagged and not w.full:
                self._tagged(tagged, scope, general, name)
            else:
                w.line(f"{missed} += 1")
                w.line(general, name)
                if scope.rest and not tagged:
                    w.line(f"{w.bind('take_over', self._take_over)}({scope.rest})", name)

    def _tagged(self, tagged: dict[str, Output], scope: ElementScope, general: str, name: str) -> None:
        w, value, inner = self._writer, scope.value, self._writer.fresh("v")
        w.line(f"{inner} = {value}.value if {value}.__class__ is {w.bind('tagged', TaggedOutput)} else {value}")
        with w.block(f"if {inner} is not {value} and ({w.ordinary(inner, PlainClasses())}):"):
            first = "if"
            for tag, output in tagged.items():
                with w.block(f"{first} {value}.tag == {w.bind('tag', tag)}:"):
                    self._made(output, replace(scope, value=inner), counted=True)
                first = "elif"
            with w.block("else:"):
                w.line(general, name)
        with w.block("else:"):
            w.line(general, name)

    def _stamped(self, op: Any, scope: ElementScope, main: Output, general: str) -> None:
        """A step that mostly gives timestamped values: the timestamp varies from here on."""
        w, value = self._writer, scope.value
        stamp, windows, ok = w.fresh("t"), w.fresh("w"), w.fresh("ok")
        fn = op.step.dofn.windowing.windowfn
        one = "" if scope.single else f" and len({scope.windows}) == 1"
        w.line(f"{ok} = True")
        with w.block(f"if {value}.__class__ is {w.bind('stamped', TimestampedValue)}{one}:"):
            w.line(f"{stamp} = {value}.timestamp")
            w.line(f"{value} = {value}.value", op.step.name)
            if type(fn) is window.GlobalWindows:
                w.line(f"{windows} = {w.bind('everywhere', EVERYWHERE)}")
            else:
                w.line(f"{windows} = {w.bind('assign', assigner(fn))}({stamp}, {value})", op.step.name)
        with w.block(f"elif {w.ordinary(value, PlainClasses())}:"):
            w.line(f"{stamp}, {windows} = {self._stamp(scope)}, {scope.windows}")
        with w.block("else:"):
            w.line(f"{ok} = False")
            w.line(general, op.step.name)
        with w.block(f"if {ok}:"):
            single = scope.single and type(fn) is not window.SlidingWindows
            inner = replace(
                scope, stamp=stamp, micros="", windows=windows, stamps_vary=True, windows_vary=True, single=single
            )
            self._made(main, inner, counted=True)

    # Windows.

    def _window(self, op: WindowOp, scope: ElementScope) -> bool:
        fn: Any = op.step.windowing.windowfn  # type: ignore[attr-defined]
        w = self._writer
        if type(fn) is window.GlobalWindows:
            windows = w.bind("everywhere", EVERYWHERE)
            self._rewindowed(op, scope, replace(scope, windows=windows, windows_vary=False, single=True))
            return True
        if type(fn) not in KNOWN_WINDOWS:
            return self._own_windows(op, scope, fn)
        windows, slots = w.fresh("w"), slots_of(fn)
        if scope.micros and slots is not None:
            self._slot(scope, slots, windows)
        elif scope.stamps_vary:
            assign = w.bind("assign", assigner(fn))
            w.line(f"{windows} = {assign}({self._stamp(scope)}, {scope.value})", op.step.name)
        else:
            w.start(f"{windows} = {w.bind('assign', assigner(fn))}({scope.stamp}, None)", op.step.name)
        single = type(fn) is not window.SlidingWindows
        self._rewindowed(
            op, scope, replace(scope, windows=windows, windows_vary=scope.stamps_vary, single=single)
        )
        return True

    def _own_windows(self, op: WindowOp, scope: ElementScope, fn: Any) -> bool:
        """A window function of the user's, called for each element; False if elements are in several windows here."""
        if not scope.single:
            return False
        w = self._writer
        windows, context = w.fresh("w"), w.bind("context", window.WindowFn.AssignContext)
        made = f"{context}({self._stamp(scope)}, {scope.value}, {scope.windows}[0])"
        w.line(f"{windows} = {w.bind('tuple', tuple)}({w.bind('assign', fn.assign)}({made}))", op.step.name)
        self._rewindowed(op, scope, replace(scope, windows=windows, windows_vary=True, single=False))
        return True

    def _slot(self, scope: ElementScope, slots: tuple[int, int, Callable[[int], Any]], windows: str) -> None:
        """Neighbours in time are in the same windows: they are looked up when the slot of time is another."""
        w, (length, offset, of_slot) = self._writer, slots
        slot, last = w.fresh("n"), w.fresh("n")
        self._timed = True
        w.start(f"{last} = {windows} = None")
        since = f"({scope.micros} - {w.bind('offset', offset)})" if offset else scope.micros
        w.line(f"{slot} = {since} // {w.bind('length', length)}")
        with w.block(f"if {slot} != {last}:"):
            w.line(f"{windows} = {w.bind('windows', of_slot)}({slot})")
            w.line(f"{last} = {slot}")

    def _rewindowed(self, op: WindowOp, scope: ElementScope, inner: ElementScope) -> None:
        if scope.single:
            self._made(op.output, inner, counted=False)
            return
        # An element in several windows comes out once for each of them.
        with self._writer.block(f"for {self._writer.fresh('o')} in {scope.windows}:"):
            self._made(op.output, inner, counted=True)


def _assigns(step: spec.ParDo) -> bool:
    return type(step.dofn.windowing.windowfn) in (window.GlobalWindows, *KNOWN_WINDOWS)
