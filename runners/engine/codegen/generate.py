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

from sage.runners.engine.codegen.inline import gives_back, makes_ordinary, paired_with
from sage.runners.engine.codegen.keyed import Whose, write_key, write_states, write_timer
from sage.runners.engine.codegen.lists import taker_of, write_lists
from sage.runners.engine.codegen.outputs import Ordinary, write_whole
from sage.runners.engine.codegen.recognise import PlainCall, Shape, SideArg, Special, StateArg
from sage.runners.engine.codegen.scope import Columns, Here
from sage.runners.engine.codegen.sinks import write_bulk, write_combine, write_edge
from sage.runners.engine.codegen.source_writer import Writer
from sage.runners.engine.codegen.specials import write_specials
from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import Stamps, timestamp_of
from sage.runners.engine.core.windows import EVERYWHERE, KNOWN_WINDOWS, assigner, slots_of
from sage.runners.engine.operators.base.operator import Op, Output, WindowOp
from sage.runners.engine.operators.base.stage_output import EdgeOp
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
        self._writer = Writer()
        self._timed = False
        self.steps: list[spec.Step] = []

    def function(self, output: Output) -> Any:
        """The function ``run(values, stamps, windows, panes)`` of an output's consumers."""
        if self._columns is Columns.STAMPS:
            return self._stamps_function(output)
        if self._columns is Columns.ALL_STAMPS:
            when = f"{self._writer.bind('when', timestamp_of)}(t)"
            head, here = "for v, t, w, p in zip(values, stamps.micros, windows, panes):", Here.mixed_stamped(when)
        elif self._columns is Columns.ALL:
            head, here = "for v, t, w, p in zip(values, stamps, windows, panes):", Here.mixed()
        else:
            head, here = "for v in values:", Here.uniform()
        return self._written(output, head, here)

    def _stamps_function(self, output: Output) -> Any:
        """Timestamps are found by the position of the value, if only the rare value needs one; else they go along."""
        self._writer.start("values = iter(values)")
        finder = f"{self._writer.bind('at', Stamps.beside)}(stamps, values)"
        found = replace(Here.stamped(finder), count="len(stamps)")
        run = self._written(output, "for v in values:", found)
        if not self._timed:
            return run
        self._writer, self.steps = Writer(), []
        made = f"{self._writer.bind('when', timestamp_of)}(t)"
        return self._written(output, "for v, t in zip(values, stamps.micros):", Here.stamped(made))

    def _written(self, output: Output, head: str, here: Here) -> Any:
        w = self._writer
        with w.block(head):
            self._consumers(output, here)
        return w.build(_HEADER, "<sage stage>")

    def _stamp(self, here: Here) -> str:
        """The source of the timestamp where every element needs it."""
        self._timed |= bool(here.micros)
        return here.stamp

    def rest_function(self, op: Any, call: PlainCall) -> Any:
        """The function ``run(values, stamps, windows, panes)`` of what one call of a step has still to give."""
        w, number = self._writer, self._writer.fresh("n")
        w.start(f"{number} = 0")
        here = replace(Here.uniform(), count=number)
        with w.block(f"for {number}, v in {w.bind('enumerate', enumerate)}(values, 1):", op.step.name):
            self._outputs(op, call, here)
        return w.build(_HEADER, "<sage rest of a call>")

    def timers_function(self, op: Any, callbacks: Mapping[str, PlainCall]) -> Any:
        """The function ``run(timers, None, windows, panes)`` of timers of a keyed step that are due.

        Args:
            op: the step.
            callbacks: what to call, by the name of the timer.
        """
        w, first = self._writer, "if"
        with w.block("for v in values:"):
            here, whose = write_timer(w, op)
            for name, call in callbacks.items():
                with w.block(f"{first} v.spec.name == {w.bind('timer', name)}:"):
                    arguments = ", ".join(self._own(op, call, here, whose))
                    self._results(op, call, f"{w.bind('f', call.function)}({arguments})", here)
                first = "elif"
        return w.build(_HEADER, "<sage timers>")

    def _micros(self, here: Here) -> str:
        """The source of the timestamp in microseconds."""
        self._timed |= bool(here.micros)
        return here.micros or f"{here.stamp}.micros"

    def _consumers(self, output: Output, here: Here) -> None:
        if not output.consumers:
            self._writer.line("pass")
        for op in output.consumers:
            self._consumer(op, here)

    def _made(self, output: Output, here: Here, counted: bool) -> None:
        """What stands where an output's element is at hand; counts it where its number is not known otherwise."""
        w = self._writer
        if counted:
            here = replace(here, count=w.fresh("n"))
            w.start(f"{here.count} = 0")
            w.line(f"{here.count} += 1")
        w.end(f"{w.bind('out', output)}.count += {here.count}")
        self._consumers(output, here)

    def _consumer(self, op: Op, here: Here) -> None:
        if isinstance(op, EdgeOp):
            self._timed |= bool(here.micros)
            write_edge(self._writer, op, here)
            return
        call = self._calls.get(op.step.id)
        if self._writer.full:
            self._general(op, here)
        elif call is not None:
            self.steps.append(op.step)
            self._plain(op, call, here)
        elif isinstance(op, WindowOp) and self._window(op, here):
            self.steps.append(op.step)
        elif isinstance(op, PreCombineOp):
            self.steps.append(op.step)
            write_combine(self._writer, op, here)
        else:
            self._general(op, here)

    def _general(self, op: Op, here: Here) -> None:
        w = self._writer
        process, make = w.bind("process", op.process), w.bind("make", create if here.micros else WindowedValue)
        self._timed |= bool(here.micros)
        w.line(f"{process}({make}({here.value}, {here.micros or here.stamp}, {here.windows}, {here.pane}))")

    # Plain calls.

    def _plain(self, op: Any, call: PlainCall, here: Here) -> None:
        w = self._writer
        if not call.sees_window and all(view.is_globally_windowed() for view in op.side_inputs):
            self._call(op, call, here, None)
        elif here.single:
            self._call(op, call, here, f"{here.windows}[0]")
        else:
            one, windows = w.fresh("o"), w.fresh("w")
            with w.block(f"for {one} in {here.windows}:"):
                w.line(f"{windows} = ({one},)")
                self._call(op, call, replace(here, windows=windows, windows_vary=True, single=True), one)

    def _side(self, op: Any, side: SideArg, here: Here, one: str | None) -> str:
        """The source of a side input's view; one that is the same for the whole call is looked up once."""
        w = self._writer
        view = w.bind("view", op.side_inputs[side.index])
        name = w.fresh("side")
        if one is not None and (here.windows_vary or here.windows != "windows"):
            last = w.fresh("last")
            w.start(f"{last} = None")
            with w.block(f"if {one} is not {last}:"):
                w.line(f"{last} = {one}")
                w.line(f"{name} = {view}[{one}]", op.step.name)
            return name
        where = w.bind("everywhere", EVERYWHERE[0]) if one is None else "windows[0]"
        w.start(f"{name} = {view}[{where}]", op.step.name)
        return name

    def _arguments(self, op: Any, call: PlainCall, here: Here, one: str | None) -> list[str]:
        """The sources of all arguments but a leading element."""
        w = self._writer

        def constant_or_side(value: Any) -> str:
            return self._side(op, value, here, one) if isinstance(value, SideArg) else w.bind("a", value)

        parts = [constant_or_side(arg) for arg in call.args]
        named = [w.keyword(name, constant_or_side(value)) for name, value in call.kwargs.items()]
        key = write_key(w, op, here) if call.keyed else ""
        parts += self._own(op, call, here, Whose(key, str(one)))
        return [*parts, *named]

    def _own(self, op: Any, call: PlainCall, here: Here, whose: Whose) -> list[str]:
        """The sources of the arguments that take something of the element's or the timer's own."""
        if not {Special.TIMESTAMP, Special.WINDOWED}.isdisjoint(call.specials.values()):
            self._stamp(here)
        own = write_specials(self._writer, op, call, here, whose)
        found = {name: own[what] for name, what in call.specials.items() if isinstance(what, Special)}
        states = {name: what for name, what in call.specials.items() if isinstance(what, StateArg)}
        if states:
            by_clock = (what.timer and not TimeDomain.is_event_time(what.spec.time_domain) for what in states.values())
            micros = self._micros(here) if any(by_clock) else ""
            found.update(write_states(self._writer, op, states, whose, here, micros))
        return [found[name] if call.placed else self._writer.keyword(name, found[name]) for name in call.specials]

    def _call(self, op: Any, call: PlainCall, here: Here, one: str | None) -> None:
        w, name = self._writer, op.step.name
        if list(op.outputs) == [None] and (constant := paired_with(call)) is not None:
            self._pair(op.outputs[None], here, *constant)
            return
        if gives_back(call):
            # What is behind may take a timestamp off; other consumers want the element as it came.
            w.line(f"{(same := w.fresh('v'))} = {here.value}")
            self._outputs(op, call, replace(here, value=same))
            return
        if call.shape is Shape.BULK:
            write_bulk(w, call.function, here.value, name)
            return
        arguments = self._arguments(op, call, here, one)
        given = [here.value, *arguments] if call.leads else arguments
        called = f"{w.bind('f', call.function)}({', '.join(given)})"
        if (taker := taker_of(w, op, call, here, self._calls)) is not None:
            write_lists(w, op, call, called, here, taker, self._take_over)
            self.steps += taker.steps
            return
        if call.shape is Shape.FILTER:
            with w.block(f"if {called}:", name):
                self._made(op.outputs[None], here, counted=True)
            return
        if call.shape is Shape.MAP:
            value = w.fresh("v")
            w.line(f"{value} = {called}", name)
            self._outputs(op, call, replace(here, value=value))
            return
        self._results(op, call, called, here)

    def _results(self, op: Any, call: PlainCall, called: str, here: Here) -> None:
        """The call of what gives an iterable of outputs, or None, and the loop over them."""
        w, name, value = self._writer, op.step.name, self._writer.fresh("v")
        results, number = w.fresh("r"), w.fresh("n")
        w.line(f"{results} = {called}", name)
        w.start(f"{number} = 0")
        with w.block(f"if {results} is not None:"):
            whole = write_whole(w, results, call.checked, name)
            rest = f"{w.bind('step', op.step.id)}, {whole}, {here.stamp}, {here.windows}, {here.pane}"
            inner = replace(here, value=value, count=number, rest=rest)
            with w.block(f"for {value} in {whole}:", name):
                w.line(f"{number} += 1")
                self._outputs(op, call, inner)

    def _pair(self, output: Output, here: Here, constant: Any) -> None:
        """The value and a constant: an ordinary element, which is put together only for who wants it whole."""
        w = self._writer
        pair = f"({here.value}, {w.bind('a', constant)})"
        if not all(isinstance(op, PreCombineOp) for op in output.consumers):
            w.line(f"{(whole := w.fresh('v'))} = {pair}")
            pair = whole
        self._made(output, replace(here, value=pair), counted=False)

    def _outputs(self, op: Any, call: PlainCall, here: Here) -> None:
        """What a plain call gave: an ordinary element, or one with a tag, a timestamp or windows about it."""
        w, value, name = self._writer, here.value, op.step.name
        general = f"{w.bind('special', op.handle_special)}({value}, {here.stamp}, {here.windows}, {here.pane})"
        main = op.outputs.get(None)
        tagged = {tag: out for tag, out in op.outputs.items() if tag is not None}
        if main is not None and not tagged and makes_ordinary(call):
            self._made(main, here, counted=False)
            return
        if call.stamps and main is not None and not tagged and _assigns(op.step):
            self._stamped(op, here, main, general)
            return
        missed = w.fresh("n")  # those that go the general way are counted there
        w.start(f"{missed} = 0")
        with w.block(f"if {w.ordinary(value, Ordinary())}:"):
            if main is None:
                w.line("pass")
            else:
                self._made(main, replace(here, count=f"({here.count} - {missed})"), counted=bool(tagged))
        with w.block("else:"):
            if tagged and not w.full:
                self._tagged(tagged, here, general, name)
            else:
                w.line(f"{missed} += 1")
                w.line(general, name)
                if here.rest and not tagged:
                    w.line(f"{w.bind('take_over', self._take_over)}({here.rest})", name)

    def _tagged(self, tagged: dict[str, Output], here: Here, general: str, name: str) -> None:
        w, value, inner = self._writer, here.value, self._writer.fresh("v")
        w.line(f"{inner} = {value}.value if {value}.__class__ is {w.bind('tagged', TaggedOutput)} else {value}")
        with w.block(f"if {inner} is not {value} and ({w.ordinary(inner, Ordinary())}):"):
            first = "if"
            for tag, output in tagged.items():
                with w.block(f"{first} {value}.tag == {w.bind('tag', tag)}:"):
                    self._made(output, replace(here, value=inner), counted=True)
                first = "elif"
            with w.block("else:"):
                w.line(general, name)
        with w.block("else:"):
            w.line(general, name)

    def _stamped(self, op: Any, here: Here, main: Output, general: str) -> None:
        """A step that mostly gives timestamped values: the timestamp varies from here on."""
        w, value = self._writer, here.value
        stamp, windows, ok = w.fresh("t"), w.fresh("w"), w.fresh("ok")
        fn = op.step.dofn.windowing.windowfn
        one = "" if here.single else f" and len({here.windows}) == 1"
        w.line(f"{ok} = True")
        with w.block(f"if {value}.__class__ is {w.bind('stamped', TimestampedValue)}{one}:"):
            w.line(f"{stamp} = {value}.timestamp")
            w.line(f"{value} = {value}.value", op.step.name)
            if type(fn) is window.GlobalWindows:
                w.line(f"{windows} = {w.bind('everywhere', EVERYWHERE)}")
            else:
                w.line(f"{windows} = {w.bind('assign', assigner(fn))}({stamp}, {value})", op.step.name)
        with w.block(f"elif {w.ordinary(value, Ordinary())}:"):
            w.line(f"{stamp}, {windows} = {self._stamp(here)}, {here.windows}")
        with w.block("else:"):
            w.line(f"{ok} = False")
            w.line(general, op.step.name)
        with w.block(f"if {ok}:"):
            single = here.single and type(fn) is not window.SlidingWindows
            inner = replace(
                here, stamp=stamp, micros="", windows=windows, stamps_vary=True, windows_vary=True, single=single
            )
            self._made(main, inner, counted=True)

    # Windows.

    def _window(self, op: WindowOp, here: Here) -> bool:
        fn: Any = op.step.windowing.windowfn  # type: ignore[attr-defined]
        w = self._writer
        if type(fn) is window.GlobalWindows:
            windows = w.bind("everywhere", EVERYWHERE)
            self._rewindowed(op, here, replace(here, windows=windows, windows_vary=False, single=True))
            return True
        if type(fn) not in KNOWN_WINDOWS:
            return self._own_windows(op, here, fn)
        windows, slots = w.fresh("w"), slots_of(fn)
        if here.micros and slots is not None:
            self._slot(here, slots, windows)
        elif here.stamps_vary:
            assign = w.bind("assign", assigner(fn))
            w.line(f"{windows} = {assign}({self._stamp(here)}, {here.value})", op.step.name)
        else:
            w.start(f"{windows} = {w.bind('assign', assigner(fn))}({here.stamp}, None)", op.step.name)
        single = type(fn) is not window.SlidingWindows
        self._rewindowed(
            op, here, replace(here, windows=windows, windows_vary=here.stamps_vary, single=single)
        )
        return True

    def _own_windows(self, op: WindowOp, here: Here, fn: Any) -> bool:
        """A window function of the user's, called for each element; False if elements are in several windows here."""
        if not here.single:
            return False
        w = self._writer
        windows, context = w.fresh("w"), w.bind("context", window.WindowFn.AssignContext)
        made = f"{context}({self._stamp(here)}, {here.value}, {here.windows}[0])"
        w.line(f"{windows} = {w.bind('tuple', tuple)}({w.bind('assign', fn.assign)}({made}))", op.step.name)
        self._rewindowed(op, here, replace(here, windows=windows, windows_vary=True, single=False))
        return True

    def _slot(self, here: Here, slots: tuple[int, int, Callable[[int], tuple[Any, ...]]], windows: str) -> None:
        """Neighbours in time are in the same windows: they are looked up when the slot of time is another."""
        w, (length, offset, of_slot) = self._writer, slots
        slot, last = w.fresh("n"), w.fresh("n")
        self._timed = True
        w.start(f"{last} = {windows} = None")
        since = f"({here.micros} - {w.bind('offset', offset)})" if offset else here.micros
        w.line(f"{slot} = {since} // {w.bind('length', length)}")
        with w.block(f"if {slot} != {last}:"):
            w.line(f"{windows} = {w.bind('windows', of_slot)}({slot})")
            w.line(f"{last} = {slot}")

    def _rewindowed(self, op: WindowOp, here: Here, inner: Here) -> None:
        if here.single:
            self._made(op.output, inner, counted=False)
            return
        # An element in several windows comes out once for each of them.
        with self._writer.block(f"for {self._writer.fresh('o')} in {here.windows}:"):
            self._made(op.output, inner, counted=True)


def _assigns(step: spec.ParDo) -> bool:
    return type(step.dofn.windowing.windowfn) in (window.GlobalWindows, *KNOWN_WINDOWS)
