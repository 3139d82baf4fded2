"""Which steps are plain, and what user function stands inside Beam's wrappers.

Plain means: called with the element, constants, and at most the element's timestamp or window. A wrapper is known
by the code object of a probe that the installed Beam made, so a Beam that wraps differently is simply not
recognised, and runs the general way.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import apache_beam as beam
from apache_beam.coders.coders import FastCoder
from apache_beam.internal.util import insert_values_in_args
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners import common
from apache_beam.transforms import core
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core import spec
from sage.runners.engine.operators.base.type_checks import constraints_of
from sage.transactions import BatchSink


class Shape(enum.Enum):
    """What a plain call gives."""

    MAP = "one output"
    FILTER = "the element, or nothing"
    FLAT = "an iterable of outputs, or None"
    BULK = "nothing; it takes a list of elements"


@dataclass(frozen=True)
class PlainCall:
    """A plain step: ``function(element, *args, **kwargs)``; an argument may be a `SideArg`.

    ``specials`` names the keyword arguments that take something of the element's own; ``stamps`` says that the
    function is likely to give ``TimestampedValue``s, which decides speed and not meaning; ``checked`` that a
    ``str``, ``bytes`` or ``dict`` as the result is the error Beam makes of it; ``placed`` that the arguments in
    ``specials`` are given by their places, right behind ``args``, which costs less than by their names; ``leads`` that
    the element comes first, and is not among ``specials``.
    """

    shape: Shape
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    specials: Mapping[str, Special | StateArg]
    stamps: bool
    checked: bool
    keyed: bool = False
    placed: bool = False
    leads: bool = True

    @property
    def sees_window(self) -> bool:
        """Whether the function is called for each window by itself, whatever the side inputs say."""
        return self.keyed or Special.WINDOW in self.specials.values()


@dataclass(frozen=True)
class NotPlain:
    """A step that is not plain, and why, in words for its author."""

    reason: str


class Special(enum.Enum):
    """What a DoFn parameter stands for."""

    TIMESTAMP = "the element's timestamp"
    WINDOW = "the one window of the call"
    PANE = "the element's pane"
    KEY = "the key of the element"
    ELEMENT = "the element itself, where it is not the first argument"
    WINDOWED = "the element with all that goes with it"
    FINALIZER = "what is called back when the outputs of the bundle are durable"
    TAG = "the tag of the timer that fires"


@dataclass(frozen=True)
class StateArg:
    """A state or timer parameter: ``spec`` is Beam's spec."""

    spec: Any
    timer: bool


@dataclass(frozen=True)
class SideArg:
    """Stands for the view of a side input, by its position among the step's side inputs."""

    index: int


def _probe(transform: Any) -> Any:
    return transform.fn


def _code(function: Any) -> CodeType | None:
    return getattr(function, "__code__", None)


def _one(x: Any) -> Any:
    return x


def _many(x: Any, y: Any) -> Any:
    return x


_MAP_CODES = {_code(_probe(beam.Map(f))._fn) for f in (_one, _many)}
_FILTER_CODES = {_code(_probe(beam.Filter(f))._fn) for f in (_one, _many)}
_CALLABLE = type(_probe(beam.FlatMap(_one)))
_SPECIAL = ("TimestampedValue", "WindowedValue")


def _checks_results() -> bool:
    """Whether the installed Beam refuses a ``str``, ``bytes`` or ``dict`` as the result of a user's DoFn."""
    try:
        common._OutputHandler(None, None, None, None, None, False, False, check_user_dofn_output=True)
    except TypeError:
        return False
    return True


_CHECKS_RESULTS = _checks_results()


def plain_call(step: spec.Step) -> PlainCall | NotPlain:
    """The plain call of a step, a keyed one included; else why the step is not plain."""
    if not isinstance(step, spec.ParDo):
        return NotPlain(f"a {step.kind} is the engine's own")
    fn = step.dofn.fn
    if (reason := _unlike_a_call(step, fn)) is not None:
        return NotPlain(reason)
    more = step.dofn.args or step.dofn.kwargs or step.side_inputs
    if isinstance(fn, BatchSink) and type(fn).process is BatchSink.process and not more:
        return PlainCall(Shape.BULK, fn.write_batch, (), {}, {}, False, False)
    method = common.MethodWrapper(fn, "process")
    sides = [SideArg(index) for index in range(len(step.side_inputs))]
    args, kwargs = insert_values_in_args(step.dofn.args, step.dofn.kwargs, sides)
    specials = _specials(method, _OF_ELEMENTS)
    if isinstance(specials, NotPlain):
        return specials
    leads = Special.ELEMENT not in specials.values()
    if specials and len(args) > len(method.args) - len(method.defaults) - leads:
        return NotPlain(
            f"positional arguments of {_called(fn)} fall among Beam's parameters ({', '.join(specials)}): "
            "pass them by name, or put Beam's parameters last"
        )
    if given := sorted(specials.keys() & kwargs.keys()):
        return NotPlain(f"{_called(fn)} is given {', '.join(given)}, which it declares as a parameter of Beam's")
    keyed = step.stateful or Special.KEY in specials.values()
    shape, function = _unwrap(fn, method.method_value)
    if shape is Shape.FILTER and not leads:
        return NotPlain(f"{_called(fn)} does not take the element first, which is what Beam's Filter keeps")
    checked = (
        _CHECKS_RESULTS
        and shape is Shape.FLAT
        and not isinstance(fn, core.CallableWrapperDoFn)
        and not inspect.isgeneratorfunction(method.method_value)
    )
    return PlainCall(
        shape, function, tuple(args), kwargs, specials, _mentions(function), checked, keyed,
        _in_place(function, specials, leads + len(args)), leads,
    )  # fmt: skip


def _unlike_a_call(step: spec.ParDo, fn: Any) -> str | None:
    """Why a DoFn is run by more than a call for each element; None if it is not."""
    if step.splittable:
        return f"{type(fn).__name__} is splittable: its restriction tracker may end each call early"
    if getattr(fn, "_process_batch_defined", False):
        return f"{type(fn).__name__} takes batches (process_batch), which Beam's batch converters make and take apart"
    if getattr(getattr(fn, "process", None), "_beam_yields_batches", False):
        return f"{type(fn).__name__}.process yields batches, which Beam's batch converters take apart"
    if constraints_of(fn):
        return "its outputs are checked against type hints: leave out --performance_runtime_type_check"
    return None


def _called(fn: Any) -> str:
    """What people call the code of a DoFn."""
    return str(getattr(getattr(fn, "_fn", None), "__name__", f"{type(fn).__name__}.process"))


def read_call(read: Callable[..., Any]) -> PlainCall:
    """The call of a function that gives what one restriction holds."""
    return PlainCall(Shape.FLAT, read, (), {}, {}, False, False)


_SPECIALS = (
    (core.DoFn.TimestampParam, Special.TIMESTAMP),
    (core.DoFn.WindowParam, Special.WINDOW),
    (core.DoFn.PaneInfoParam, Special.PANE),
    (core.DoFn.KeyParam, Special.KEY),
)
_OF_ELEMENTS = (
    *_SPECIALS,
    (core.DoFn.ElementParam, Special.ELEMENT),
    (core.DoFn.WindowedValueParam, Special.WINDOWED),
    (core.DoFn.BundleFinalizerParam, Special.FINALIZER),
)
_OF_TIMERS = (*_SPECIALS, (core.DoFn.DynamicTimerTagParam, Special.TAG))


def timer_calls(fn: Any) -> dict[str, PlainCall] | None:
    """What is called without an element when a timer of a keyed DoFn fires, by the timer's name.

    None if one of them wants something that only Beam's runner gives.
    """
    calls = {}
    for timer, method in common.DoFnSignature(fn).timer_methods.items():
        specials = _specials(method, _OF_TIMERS)
        if isinstance(specials, NotPlain) or Special.PANE in specials.values():
            return None
        function = method.method_value
        checked = _CHECKS_RESULTS and not inspect.isgeneratorfunction(function)
        placed = _in_place(function, specials, 0)
        calls[timer.name] = PlainCall(
            Shape.FLAT, function, (), {}, specials, _mentions(function), checked, placed=placed
        )
    return calls


def _in_place(function: Any, specials: Mapping[str, Any], before: int) -> bool:
    """Whether these are the parameters of a function behind so many others, in this order."""
    bound = isinstance(function, MethodType)
    plain = function.__func__ if bound else function
    if not isinstance(plain, FunctionType):
        return False
    code = plain.__code__
    names = code.co_varnames[: code.co_argcount][bound + before :]
    return names[: len(specials)] == tuple(specials)


def _specials(method: Any, known: Any) -> dict[str, Special | StateArg] | NotPlain:
    """What each special argument takes; else which one it is that only Beam's runner gives."""
    found: dict[str, Special | StateArg] = {}
    defaults = method.defaults
    for name, default in zip(method.args[-len(defaults) :] if defaults else (), defaults, strict=False):
        if not _is_param(default):
            continue
        if isinstance(default, core.DoFn.StateParam):
            found[name] = StateArg(default.state_spec, timer=False)
        elif isinstance(default, core.DoFn.TimerParam):
            found[name] = StateArg(default.timer_spec, timer=True)
        else:
            special = next((special for param, special in known if param == default), None)
            if special is None:
                wanted = f"parameter '{name}' is a DoFn.{_param_name(default)}"
                return NotPlain(f"{wanted}, which only Beam's DoFnRunner gives")
            found[name] = special
    return found


def _param_name(default: Any) -> str:
    """What a parameter of Beam's is called, as an attribute of ``DoFn``."""
    if type(default) is core._DoFnParam:
        return str(default.param_id)
    kind = default if isinstance(default, type) else type(default)
    return kind.__name__.lstrip("_")


def _is_param(default: Any) -> bool:
    if isinstance(default, core._DoFnParam):
        return True
    return isinstance(default, type) and issubclass(default, core._DoFnParam)


def _unwrap(fn: Any, method: Callable[..., Any]) -> tuple[Shape, Callable[..., Any]]:
    if type(fn) is _CALLABLE:
        inner = fn._fn
        code = _code(inner)
        if code in _MAP_CODES:
            return Shape.MAP, _closed_over(inner)
        if code in _FILTER_CODES:
            return Shape.FILTER, _closed_over(inner)
        if not isinstance(inner, FunctionType | BuiltinFunctionType | MethodType):
            return Shape.FLAT, inner  # Beam's wrapper around a callable object only calls it
    return Shape.FLAT, method


def _closed_over(wrapper: FunctionType) -> Callable[..., Any]:
    cells = dict(zip(wrapper.__code__.co_freevars, wrapper.__closure__ or (), strict=True))
    function: Callable[..., Any] = cells["fn"].cell_contents
    if isinstance(function, MethodType) and function.__func__ is FastCoder.decode:
        coder: Any = function.__self__
        function = coder.get_impl().decode
    return function


def _mentions(function: Any) -> bool:
    """Whether the source of a function names a timestamped or windowed value."""
    code = _code(inspect.unwrap(function)) or _code(getattr(function, "__func__", None))
    if code is None:
        code = _code(vars(type(function)).get("__call__"))
    pending = [code] if code is not None else []
    while pending:
        current = pending.pop()
        if any(name in _SPECIAL for name in current.co_names):
            return True
        pending += [const for const in current.co_consts if isinstance(const, CodeType)]
    return False


def is_ordinary(cls: type) -> bool:
    """Whether values of a class are elements as they are, with no tag, timestamp or windows about them."""
    return not issubclass(cls, TaggedOutput | WindowedValue | TimestampedValue)
