"""Functions that need not be called: what they do is written in their place."""

from __future__ import annotations

import dis
import inspect
from itertools import islice
from types import FunctionType, MethodType
from typing import Any

from sage.runners.engine.codegen.recognise import PlainCall, Shape

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


def is_identity(call: PlainCall) -> bool:
    """Whether the call is no more than ``lambda x: x``."""
    match _steps(call):
        case [(first, _), ("RETURN_VALUE", _)]:
            return first in _LOAD_ARGUMENT
    return False


_MADE = ("BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_STRING", *_LOAD_CONSTANT)
_NO_PLAIN_GENERATOR = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def makes_ordinary(call: PlainCall) -> bool:
    """Whether each output is a tuple, list, dict, set or constant that the function's own code makes as the last thing
    before it returns or yields it: such an element has no tag, timestamp or windows about it.
    """
    function = call.function.__func__ if isinstance(call.function, MethodType) else call.function
    if type(function) is not FunctionType or call.shape not in (Shape.MAP, Shape.FLAT):
        return False
    generates = bool(function.__code__.co_flags & inspect.CO_GENERATOR)
    if function.__code__.co_flags & _NO_PLAIN_GENERATOR or generates is not (call.shape is Shape.FLAT):
        return False
    last = ""
    for step in dis.get_instructions(function.__code__):
        if step.opname == ("YIELD_VALUE" if generates else "RETURN_VALUE") and (
            last not in _MADE or step.is_jump_target
        ):
            return False
        last = step.opname
    return True


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
