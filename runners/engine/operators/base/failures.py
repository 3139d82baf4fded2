"""How what user code raises becomes the error of a step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn

from sage.errors import StepError, WorkerLost
from sage.runners.engine.operators.base.context import TaskContext
from sage.trace import is_framework, is_standard, raise_location

RAISED = (Exception, SystemExit)
"""What user code may raise that is an error of its step: ``sys.exit()`` there ends the job, and not a process."""

_NO_PAIR = re.compile(r"cannot unpack non-iterable (?P<a>.+) object|'(?P<b>.+)' object is not subscriptable")
_UNPACKED = re.compile(r"(not enough|too many) values to unpack")


def raise_step_error(
    name: str, error: BaseException, context: TaskContext, keyed: bool = False
) -> NoReturn:
    """Raises ``error`` as a StepError of this step, unless a step behind it raised it.

    Args:
        name: the full name of the step.
        error: what was raised.
        context: knows the line that applied the step.
        keyed: whether the step takes its elements apart into key and value.
    """
    if isinstance(error, StepError | WorkerLost):
        raise error
    cause = _no_pair(error) if keyed else error
    raised_at = raise_location(error.__traceback__)
    if raised_at is None and error.__cause__ is not None and not isinstance(error, OSError):
        # A generator that lets a StopIteration out gives an error that Python makes, and no line of the user's. An
        # error of the system that is ours has its cause in the code of a client.
        raised_at = raise_location(error.__cause__.__traceback__)
    raise StepError(name, cause, raised_at, context.locations.get(name)) from cause


@contextmanager
def naming(name: str, context: TaskContext, keyed: bool = False) -> Iterator[None]:
    """What is raised inside names this step; for code that runs once for many elements."""
    try:
        yield
    except RAISED as error:
        raise_step_error(name, error, context, keyed)


def _no_pair(error: BaseException) -> BaseException:
    """Says what an element that is no key-value pair did wrong, in place of what Python says of our code."""
    if not isinstance(error, TypeError | ValueError) or not _raised_by_us(error.__traceback__):
        return error
    found = _NO_PAIR.fullmatch(str(error))
    if found:
        got = f"of type {found['a'] or found['b']}"
    elif _UNPACKED.match(str(error)):
        got = "of another length"
    else:
        return error
    return TypeError(
        f"this step takes (key, value) pairs, and an element is {got}: let the step before it give pairs, and"
        " declare them with type hints to have this found before the job runs"
    ).with_traceback(error.__traceback__)


def _raised_by_us(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    file = traceback.tb_frame.f_code.co_filename
    return is_framework(file) and not is_standard(file)
