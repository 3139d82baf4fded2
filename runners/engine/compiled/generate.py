"""Generates the nested loops of a chain of plain steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import combiners, core, window
from apache_beam.transforms.window import TimestampedValue, WindowFn
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine import spec
from sage.runners.engine.combine import PreCombineOp
from sage.runners.engine.compiled.recognise import PlainCall, Shape, SideArg, is_ordinary
from sage.runners.engine.compiled.source import Writer
from sage.runners.engine.edge import EdgeOp
from sage.runners.engine.ops import Op, Output, WindowOp

_WRAPPERS = (core.CallableWrapperCombineFn, core.NoSideInputsCallableWrapperCombineFn)
_MISSING = object()


@dataclass(frozen=True)
class Here:
    """Where the generator stands: the names of the value, its timestamp, windows and pane.

    ``stamps_vary`` and its like say whether they differ between elements of one call; ``single`` that there is
    exactly one window.
    """

    value: str
    stamp: str
    windows: str
    pane: str
    stamps_vary: bool
    windows_vary: bool
    panes_vary: bool
    single: bool


class Generator:
    """Writes one function for the tree of steps behind an output.

    Args:
        calls: the plain steps, by step id.
        mixed: whether the function takes columns of timestamps, windows and panes, or one of each for all.
    """

    def __init__(self, calls: dict[spec.StepId, PlainCall], mixed: bool) -> None:
        self._calls = calls
        self._mixed = mixed
        self._writer = Writer()
        self._ends: list[str] = []
        self.steps: list[spec.Step] = []

    def function(self, output: Output) -> Any:
        """The function ``run(values, stamps, windows, panes)`` of an output's consumers."""
        w = self._writer
        if self._mixed:
            loop = "for v, t, w, p in zip(values, stamps, windows, panes):"
        else:
            loop = "for v in values:"
        m = self._mixed
        here = Here("v", "t" if m else "stamps", "w" if m else "windows", "p" if m else "panes", m, m, m, not m)
        with w.block(loop):
            self._consumers(output, here)
        for line in self._ends:
            w.line(line)
        return w.build("def run(values, stamps, windows, panes...):", f"<sage stage {output.collection}>")

    def _consumers(self, output: Output, here: Here) -> None:
        if not output.consumers:
            self._writer.line("pass")
        for op in output.consumers:
            self._consumer(op, here)

    def _consumer(self, op: Op, here: Here) -> None:
        call = None if isinstance(op, EdgeOp) else self._calls.get(op.step.id)
        if isinstance(op, EdgeOp):
            self._edge(op, here)
        elif self._writer.full:
            self._general(op, here)
        elif call is not None:
            self.steps.append(op.step)
            self._plain(op, call, here)
        elif isinstance(op, WindowOp) and self._window(op, here):
            self.steps.append(op.step)
        elif isinstance(op, PreCombineOp):
            self.steps.append(op.step)
            self._combine(op, here)
        else:
            self._general(op, here)

    def _general(self, op: Op, here: Here) -> None:
        process, make = self._writer.bind("process", op.process), self._writer.bind("make", WindowedValue)
        self._writer.line(f"{process}({make}({here.value}, {here.stamp}, {here.windows}, {here.pane}))")

    # Plain calls.

    def _plain(self, op: Any, call: PlainCall, here: Here) -> None:
        w = self._writer
        sees_window = call.window is not None or not all(v.is_globally_windowed() for v in op.side_inputs)
        if sees_window and here.single:
            self._call(op, call, here, f"{here.windows}[0]")
        elif sees_window:
            one = w.fresh("o")
            windows = w.fresh("w")
            with w.block(f"for {one} in {here.windows}:"):
                w.line(f"{windows} = ({one},)")
                inner = replace(here, windows=windows, windows_vary=True, single=True)
                self._call(op, call, inner, one)
        else:
            self._call(op, call, here, None)

    def _argument(self, op: Any, value: Any, here: Here, window: str | None) -> str:
        """The source of one argument: a constant, or the view of a side input."""
        w = self._writer
        if not isinstance(value, SideArg):
            return w.bind("a", value)
        view = w.bind("view", op.side_inputs[value.index])
        if window is not None and (here.windows_vary or here.windows != "windows"):
            return f"{view}[{window}]"
        name = w.fresh("side")
        where = w.bind("everywhere", _EVERYWHERE[0]) if window is None else "windows[0]"
        w.start(f"{name} = {view}[{where}]", op.step.name)
        return name

    def _call(self, op: Any, call: PlainCall, here: Here, window: str | None) -> None:
        w, name = self._writer, op.step.name
        function = w.bind("f", call.function)
        extra = "".join(f", {self._argument(op, arg, here, window)}" for arg in call.args)
        for key, value in call.kwargs.items():
            extra += f", {key}={self._argument(op, value, here, window)}"
        if call.window is not None:
            extra += f", {call.window}={window}"
        if call.timestamp is not None:
            extra += f", {call.timestamp}={here.stamp}"
        called = f"{function}({here.value}{extra})"
        if call.shape is Shape.FILTER:
            with w.block(f"if {called}:", name):
                self._consumers(op.outputs[None], here)
            return
        value = w.fresh("v")
        if call.shape is Shape.MAP:
            w.line(f"{value} = {called}", name)
            self._outputs(op, call, replace(here, value=value))
            return
        results = w.fresh("r")
        w.line(f"{results} = {called}", name)
        if call.checked:
            w.line(f"if {results}.__class__ in {w.bind('bad', _BAD)}: {w.bind('refuse', _refuse)}({results})", name)
        with w.block(f"if {results} is not None:"), w.block(f"for {value} in {results}:", name):
            self._outputs(op, call, replace(here, value=value))

    def _outputs(self, op: Any, call: PlainCall, here: Here) -> None:
        """What a plain call gave: an ordinary element, or one with a tag, a timestamp or windows about it."""
        w, value, name = self._writer, here.value, op.step.name
        ordinary = w.bind("ordinary", _Ordinary.shared)
        special = w.bind("special", _Special(op))
        general = f"{special}({value}, {here.stamp}, {here.windows}, {here.pane})"
        main = op.outputs.get(None)
        tagged = {tag: out for tag, out in op.outputs.items() if tag is not None}
        if call.stamps and main is not None and not tagged and _simple(op.step):
            self._stamped(op, here, main, general, ordinary)
            return
        with w.block(f"if {value}.__class__ in {ordinary} or {ordinary}.learn({value}):"):
            self._consumers(main, here) if main is not None else w.line("pass")
        with w.block("else:"):
            inner = w.fresh("v")
            first = "if"
            if tagged and not w.full:
                kind = w.bind("tagged", TaggedOutput)
                w.line(f"{inner} = {value}.value if {value}.__class__ is {kind} else {value}")
                for tag, output in tagged.items():
                    test = (
                        f"{first} {inner} is not {value} and {value}.tag == {tag!r}"
                        f" and {inner}.__class__ in {ordinary}:"
                    )
                    with w.block(test):
                        self._consumers(output, replace(here, value=inner))
                    first = "elif"
                with w.block("else:"):
                    w.line(general, name)
            else:
                w.line(general, name)

    def _stamped(self, op: Any, here: Here, main: Output, general: str, ordinary: str) -> None:
        """A step that mostly gives timestamped values: the timestamp varies from here on."""
        w, value = self._writer, here.value
        stamp, windows, ok = w.fresh("t"), w.fresh("w"), w.fresh("ok")
        kind = w.bind("stamped", TimestampedValue)
        assign = op.step.dofn.windowing.windowfn
        w.line(f"{ok} = True")
        one = "" if here.single else f" and len({here.windows}) == 1"
        with w.block(f"if {value}.__class__ is {kind}{one}:"):
            w.line(f"{stamp} = {value}.timestamp")
            w.line(f"{value} = {value}.value", op.step.name)
            if type(assign) is window.GlobalWindows:
                w.line(f"{windows} = {w.bind('everywhere', _EVERYWHERE)}")
            else:
                w.line(f"{windows} = {w.bind('assign', _assigner(assign))}({stamp}, {value})", op.step.name)
        with w.block(f"elif {value}.__class__ in {ordinary} or {ordinary}.learn({value}):"):
            w.line(f"{stamp}, {windows} = {here.stamp}, {here.windows}")
        with w.block("else:"):
            w.line(f"{ok} = False")
            w.line(general, op.step.name)
        with w.block(f"if {ok}:"):
            single = here.single and type(assign) is not window.SlidingWindows
            inner = replace(
                here, stamp=stamp, windows=windows, stamps_vary=True, windows_vary=True, single=single
            )
            self._consumers(main, inner)

    # Windows.

    def _window(self, op: WindowOp, here: Here) -> bool:
        fn: Any = op.step.windowing.windowfn  # type: ignore[attr-defined]
        w, windows = self._writer, None
        if type(fn) is window.GlobalWindows:
            windows = w.bind("everywhere", _EVERYWHERE)
            self._rewindowed(op, here, replace(here, windows=windows, windows_vary=False, single=True))
            return True
        if type(fn) not in _KNOWN_WINDOWS:
            return False
        windows = w.fresh("w")
        w_assign = w.bind("assign", _assigner(fn))
        if here.stamps_vary:
            w.line(f"{windows} = {w_assign}({here.stamp}, {here.value})", op.step.name)
        else:
            w.start(f"{windows} = {w_assign}({here.stamp}, None)")
        single = type(fn) is not window.SlidingWindows
        self._rewindowed(
            op, here, replace(here, windows=windows, windows_vary=here.stamps_vary, single=single)
        )
        return True

    def _rewindowed(self, op: WindowOp, here: Here, inner: Here) -> None:
        if here.single:
            self._consumers(op.output, inner)
            return
        # An element in several windows comes out once for each of them.
        with self._writer.block(f"for {self._writer.fresh('o')} in {here.windows}:"):
            self._consumers(op.output, inner)

    # Where the chain ends.

    def _edge(self, op: EdgeOp, here: Here) -> None:
        w = self._writer
        columns = [("b", here.value, True), ("bt", here.stamp, here.stamps_vary),
                   ("bw", here.windows, here.windows_vary), ("bp", here.pane, here.panes_vary)]  # fmt: skip
        lists = {prefix: w.fresh(prefix) for prefix, _, varies in columns if varies}
        limit, room = w.fresh("n"), w.bind("room", op.room)
        flush = w.bind("flush", op.take)
        w.start(f"{limit} = {room}()")
        for name in lists.values():
            w.start(f"{name} = []")
        for prefix, source, varies in columns:
            if varies:
                w.line(f"{lists[prefix]}.append({source})")
        names = [lists.get(prefix, source) for prefix, source, _ in columns]
        send = f"{flush}({', '.join(names)})"
        with w.block(f"if len({lists['b']}) >= {limit}:"):
            w.line(send)
            for name in lists.values():
                w.line(f"{name} = []")
            w.line(f"{limit} = {room}()")
        self._ends.append(f"if {lists['b']}: {send}")

    def _combine(self, op: PreCombineOp, here: Here) -> None:
        w, name = self._writer, op.step.name
        table = w.fresh("table")
        find = w.bind("tables", op.table)
        if not here.single:
            one = w.fresh("o")
            with w.block(f"for {one} in {here.windows}:"):
                w.line(f"{table} = {find}({one})")
                self._gather(op, here.value, table, name)
        elif here.windows_vary:
            last = w.fresh("last")
            w.start(f"{last} = {table} = None")
            with w.block(f"if {here.windows} is not {last}:"):
                w.line(f"{last} = {here.windows}")
                w.line(f"{table} = {find}({last}[0])")
            self._gather(op, here.value, table, name, f"{last} = None")
        else:
            look = f"{table} = {find}({here.windows}[0])"
            w.start(look)
            self._gather(op, here.value, table, name, look)

    def _gather(self, op: PreCombineOp, value: str, table: str, name: str, look: str | None = None) -> None:
        w = self._writer
        key, x, found = w.fresh("k"), w.fresh("x"), w.fresh("a")
        w.line(f"{key}, {x} = {value}", name)
        direct = w.bind("direct", op.ids.direct)
        with w.block(f"if {key}.__class__ not in {direct}:"):
            w.line(f"{key} = {w.bind('identify', op.identify)}({key})", name)
        fn = op.fn
        if type(fn) is combiners.CountCombineFn:
            w.line(f"{found} = {table}.get({key})")
            with w.block(f"if {found} is None:"):
                w.line(f"{table}[{key}] = 1")
                self._counted(op, table, look)
            with w.block("else:"):
                w.line(f"{table}[{key}] = {found} + 1")
        elif type(fn) in _WRAPPERS:
            w.line(f"{found} = {table}.get({key})")
            with w.block(f"if {found} is None:"):
                w.line(f"{table}[{key}] = [{x}]")
                self._counted(op, table, look)
            with w.block("else:"):
                w.line(f"{found}.append({x})")
                limit = w.bind("buffer", _BUFFER)
                with w.block(f"if len({found}) > {limit}:"):
                    w.line(f"{table}[{key}] = {w.bind('compact', fn.compact)}({found})", name)
        else:
            missing = w.bind("missing", _MISSING)
            w.line(f"{found} = {table}.get({key}, {missing})")
            add, create = w.bind("add", fn.add_input), w.bind("create", fn.create_accumulator)
            with w.block(f"if {found} is {missing}:"):
                w.line(f"{table}[{key}] = {add}({create}(), {x})", name)
                self._counted(op, table, look)
            with w.block("else:"):
                w.line(f"{table}[{key}] = {add}({found}, {x})", name)

    def _counted(self, op: PreCombineOp, table: str, look: str | None) -> None:
        w = self._writer
        with w.block(f"if len({table}) >= {w.bind('most', op.MAX_KEYS)}:"):
            w.line(f"{w.bind('send', op.send)}()")
            if look is not None:
                w.line(look)


_BUFFER = 256
_EVERYWHERE = (window.GlobalWindow(),)
_KNOWN_WINDOWS = (window.FixedWindows, window.SlidingWindows, window.Sessions)
_BAD = frozenset({str, bytes, dict})


def _simple(step: spec.ParDo) -> bool:
    fn = step.dofn.windowing.windowfn
    return type(fn) in (window.GlobalWindows, *_KNOWN_WINDOWS)


def _assigner(fn: Any) -> Any:
    """``assign(timestamp, value)`` of a window function, with the windows of fixed intervals remembered."""
    assign, context = fn.assign, WindowFn.AssignContext
    if type(fn) is not window.FixedWindows:
        return lambda stamp, value: tuple(assign(context(stamp, value)))
    size, offset = fn.size.micros, fn.offset.micros
    known: dict[int, tuple[Any, ...]] = {}

    def fixed(stamp: Any, value: Any) -> tuple[Any, ...]:
        start = (stamp.micros - offset) // size
        found = known.get(start)
        if found is None:
            if len(known) > 10_000:
                known.clear()
            found = known[start] = tuple(assign(context(stamp, value)))
        return found

    return fixed


def _refuse(results: Any) -> None:
    kind = type(results).__name__
    raise TypeError(
        f"Returning a {kind} from a ParDo or FlatMap is not allowed. "
        f"Please use list({results!r}) if you really want this behavior."
    )


class _Ordinary(set):  # type: ignore[type-arg]
    """Classes met whose values are plain elements."""

    shared: _Ordinary

    def learn(self, value: Any) -> bool:
        """Whether a value of a class not met before is an ordinary element; remembers it."""
        cls = value.__class__
        if is_ordinary(type(value)):
            if type(value) is cls:
                self.add(cls)
            return True
        return False


_Ordinary.shared = _Ordinary()


class _Special:
    """Hands an output that carries a tag, a timestamp or windows to the general operators."""

    def __init__(self, op: Any) -> None:
        self._handler = op.handle_special

    def __call__(self, value: Any, stamp: Any, windows: Any, pane: Any) -> None:
        self._handler(value, stamp, windows, pane)
