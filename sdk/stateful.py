"""A keyed function compiled into one stateful Beam DoFn.

Beam learns which cells and timers a DoFn has from the signature of its methods, so each function class gets a DoFn
class whose methods carry the signature that its declarations ask for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from sage.dofns import namespace_of
from sage.handles import Handle, MapHandle
from sage.keyed import KeyedContext, KeyedCoProcessFunction, KeyedProcessFunction, _Timed
from sage.runtime import RuntimeContext
from sage.state import State, declared_states

__all__ = ["KeyedDoFn", "stateful_dofn"]

_EVENT = "sage_event_timer"
_PROCESSING = "sage_processing_timer"
_STATE = "state_"


class KeyedDoFn(beam.DoFn):
    """The part that all compiled functions share; `stateful_dofn` makes the class around it.

    Args:
        function: the user's function.
        step: the step's label.
        states: the declared states by name, in the order of the signature.
    """

    def __init__(self, function: Any, step: str, states: dict[str, State[Any]]) -> None:
        super().__init__()
        self.function = function
        self.step = step
        self.states = states
        self._handles: tuple[Handle, ...] | None = None

    def setup(self) -> None:
        self._context = KeyedContext(self.step)
        handles = {name: state.attach(self.function, self._context) for name, state in self.states.items()}
        if isinstance(self.function, KeyedCoProcessFunction):
            self._calls: tuple[Callable[..., Any], ...] = (
                self.function.process_element1,
                self.function.process_element2,
            )
        else:
            self._calls = (self.function.process_element,)
        self.function.open(RuntimeContext(self.step, namespace_of(self.function), handles))
        self._handles = tuple(handles.values())
        self._buffering = tuple(handle for handle in self._handles if isinstance(handle, MapHandle))

    def teardown(self) -> None:
        if self._handles is not None:
            self._handles = None
            self.function.close()

    def _run(
        self, call: Callable[..., Any], argument: Any, place: tuple[Any, Any, Any], cells: Sequence[Any]
    ) -> Iterator[Any]:
        """Call the user's method with state and timers bound to the key, until its outputs are exhausted.

        Args:
            call: the user's method.
            argument: the value, or the instant of the timer.
            place: key, timestamp and window.
            cells: the states' cells, then the timers, in the order of the signature.
        """
        handles = self._handles or ()
        for handle, cell in zip(handles, cells, strict=False):
            handle.cell = cell
        for buffer in self._buffering:
            buffer.begin()
        self._context.enter(*place, self._timers_of(cells))
        try:
            outputs = call(argument, self._context)
            if outputs is not None:
                yield from outputs
            for buffer in self._buffering:
                buffer.commit()
        finally:
            for handle in handles:
                handle.cell = handle.unbound

    def _timers_of(self, cells: Sequence[Any]) -> tuple[Any, Any]:
        """The timer for event time and the one for processing time; None for what the class has no method for."""
        return None, None


def stateful_dofn(
    function: KeyedProcessFunction[Any, Any] | KeyedCoProcessFunction[Any, Any, Any], step: str
) -> KeyedDoFn:
    """The DoFn that runs a keyed function over (key, value) pairs.

    A `KeyedCoProcessFunction` gets (key, (side, value)), where side is 0 for the first stream and 1 for the second.

    Raises:
        ConfigError: two states of the function have one name.
    """
    states = declared_states(type(function))
    cells = {_STATE + name: beam.DoFn.StateParam(state.spec()) for name, state in states.items()}
    event = TimerSpec("event", TimeDomain.WATERMARK)
    processing = TimerSpec("processing", TimeDomain.REAL_TIME)
    base: type = type(function)
    has_event = base.on_timer is not _Timed.on_timer  # type: ignore[attr-defined]
    has_processing = base.on_processing_timer is not _Timed.on_processing_timer  # type: ignore[attr-defined]
    if has_event:
        cells[_EVENT] = beam.DoFn.TimerParam(event)
    if has_processing:
        cells[_PROCESSING] = beam.DoFn.TimerParam(processing)

    methods: dict[str, Any] = {"process": _process_method(cells, isinstance(function, KeyedCoProcessFunction))}
    if has_event or has_processing:
        methods["_timers_of"] = _timers_of(cells)
    if has_event:
        methods["on_event_timer"] = on_timer(event)(_timer_method("on_event_timer", "on_timer", cells))
    if has_processing:
        methods["on_real_timer"] = on_timer(processing)(_timer_method("on_real_timer", "on_processing_timer", cells))
    # No module has a name like this one, so a pickler takes the class by value, as it must.
    compiled = type(f"KeyedDoFn[{base.__name__}]", (KeyedDoFn,), {"__module__": __name__, **methods})
    return compiled(function, step, states)


def _timers_of(cells: dict[str, Any]) -> Callable[..., tuple[Any, Any]]:
    names = list(cells)
    event = names.index(_EVENT) if _EVENT in cells else None
    processing = names.index(_PROCESSING) if _PROCESSING in cells else None

    def timers_of(self, values):  # type: ignore[no-untyped-def]
        return (
            None if event is None else values[event],
            None if processing is None else values[processing],
        )

    return timers_of


def _process_method(cells: dict[str, Any], tagged: bool) -> Callable[..., Any]:
    names = tuple(cells)

    def process(self, element, timestamp, window, *values, **named):  # type: ignore[no-untyped-def]
        key, value = element
        side = 0
        if tagged:
            side, value = value
        if named:
            values = (*values, *(named[name] for name in names[len(values) :]))
        return self._run(self._calls[side], value, (key, timestamp, window), values)

    leading = {"timestamp": beam.DoFn.TimestampParam, "window": beam.DoFn.WindowParam}
    return _with_signature(process, ("self", "element"), {**leading, **cells})


def _timer_method(name: str, method: str, cells: dict[str, Any]) -> Callable[..., Any]:
    names = tuple(cells)

    def fire(self, tag, key, window, **named):  # type: ignore[no-untyped-def]
        # The tag is the instant that the user set: a runner may fire late, and its own timestamp may be another.
        timestamp = Timestamp(micros=int(tag))
        place = (key, timestamp, window)
        return self._run(getattr(self.function, method), timestamp, place, [named[name] for name in names])

    fire.__name__ = name
    leading = {
        "tag": beam.DoFn.DynamicTimerTagParam,
        "key": beam.DoFn.KeyParam,
        "window": beam.DoFn.WindowParam,
    }
    return _with_signature(fire, ("self",), {**leading, **cells})


def _with_signature(method: Callable[..., Any], plain: tuple[str, ...], defaults: dict[str, Any]) -> Callable[..., Any]:
    """Give a method the parameters that Beam is to find on it."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in plain]
    parameters += [inspect.Parameter(name, kind, default=default) for name, default in defaults.items()]
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return method
