"""Functions that need not be called: what they do is written in their place."""

from __future__ import annotations

import dis
import inspect
from types import FunctionType
from typing import Any

from sage.runners.engine.compiled.recognise import PlainCall, Shape

_LOAD_ARGUMENT = ("LOAD_FAST", "LOAD_FAST_BORROW")
_LOAD_CONSTANT = ("LOAD_CONST", "LOAD_SMALL_INT")
_STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


def paired_with(call: PlainCall) -> tuple[Any] | None:
    """The constant, in a tuple, if the call is no more than ``lambda x: (x, constant)``; else None.

    Most that is counted or summed goes through such a function, Beam's own or the user's. Making the pair in place is
    what the call does, and costs a fifth of it.
    """
    steps = _steps(call)
    if [name for name, _ in steps[2:]] != ["BUILD_TUPLE", "RETURN_VALUE"] or steps[2][1] != 2:
        return None
    (load, _), (load_constant, constant) = steps[:2]
    return (constant,) if load in _LOAD_ARGUMENT and load_constant in _LOAD_CONSTANT else None


def gives_back(call: PlainCall) -> bool:
    """Whether the call is no more than ``lambda x: x``."""
    return [name for name, _ in _steps(call) if name not in _LOAD_ARGUMENT] == ["RETURN_VALUE"]


def _steps(call: PlainCall) -> list[tuple[str, Any]]:
    """The instructions of a function that maps its one argument, and their arguments; none if there is more to it."""
    function = call.function
    if call.shape is not Shape.MAP or call.args or call.kwargs or call.specials or type(function) is not FunctionType:
        return []
    code = function.__code__
    if code.co_argcount != 1 or code.co_kwonlyargcount or code.co_flags & _STARS or code.co_nlocals != 1:
        return []
    return [(step.opname, step.argval) for step in dis.get_instructions(code) if step.opname != "RESUME"]
