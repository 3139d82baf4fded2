"""Functions that need not be called: what they do is written in their place."""

from __future__ import annotations

import dis
from itertools import islice
from types import FunctionType
from typing import Any

from sage.runners.engine.compiled.recognise import PlainCall, Shape

_LOAD_ARGUMENT = ("LOAD_FAST", "LOAD_FAST_BORROW")
_LOAD_CONSTANT = ("LOAD_CONST", "LOAD_SMALL_INT")
_LONGEST = 4  # instructions of what is known here


def paired_with(call: PlainCall) -> tuple[Any] | None:
    """The constant, in a tuple, if the call is no more than ``lambda x: (x, constant)``; else None.

    Most that is counted or summed goes through such a function, Beam's own or the user's. Making the pair in place is
    what the call does, and costs a fifth of it.
    """
    match _steps(call):
        case [(first, _), (second, constant), ("BUILD_TUPLE", 2), ("RETURN_VALUE", _)]:
            return (constant,) if first in _LOAD_ARGUMENT and second in _LOAD_CONSTANT else None
    return None


def gives_back(call: PlainCall) -> bool:
    """Whether the call is no more than ``lambda x: x``."""
    match _steps(call):
        case [(first, _), ("RETURN_VALUE", _)]:
            return first in _LOAD_ARGUMENT
    return False


def _steps(call: PlainCall) -> list[tuple[str, Any]]:
    """How a function that maps its one argument begins: instructions, each with what it works on. One more than is
    known here says that there is more; none, that the function takes or keeps anything else.
    """
    function = call.function
    if call.shape is not Shape.MAP or call.args or call.kwargs or call.specials or type(function) is not FunctionType:
        return []
    code = function.__code__
    if code.co_argcount != 1 or code.co_nlocals != 1:
        return []
    steps = ((step.opname, step.argval) for step in dis.get_instructions(code) if step.opname != "RESUME")
    return list(islice(steps, _LONGEST + 1))
