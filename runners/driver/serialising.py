"""What can go wrong while Beam makes a proto of a pipeline, told by step and by the variable at fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, MethodType, TracebackType
from typing import Any

from apache_beam.pipeline import AppliedPTransform
from apache_beam.transforms.ptransform import PTransformWithSideInputs

from sage.errors import InvalidPipeline, Location, SageError, message_of
from sage.runners.engine.serde import pickling

_DEEPEST = 6


@contextmanager
def serialising(locations: Mapping[str, Location]) -> Iterator[None]:
    """What Beam raises inside, about a step, is an InvalidPipeline that names the step.

    Args:
        locations: the line that applied each step, by full step name, where it is known.
    """
    try:
        yield
    except SageError:
        raise
    except Exception as error:
        applied = _applied(error.__traceback__)
        if applied is None:
            raise
        where = locations.get(applied.full_label)
        named = f"step '{applied.full_label}'" + (f" (applied at {where})" if where else "")
        root = _root(error)
        at_fault = culprit(applied.transform)
        advice = f". {at_fault} cannot be pickled: make it in the step's setup() instead" if at_fault else ""
        if "deterministic" in message_of(root):
            advice = ". Equal keys must have equal bytes: give the keys' type a deterministic coder, or group by str"
        raise InvalidPipeline(f"{named}: {type(root).__name__}: {message_of(root)}{advice}") from error


def _root(error: BaseException) -> BaseException:
    """What Beam's own errors, which say less, were made of."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def unpicklable_in(traceback: TracebackType | None) -> str | None:
    """The variable at fault where Beam refused a function while the pipeline was built; None if it did not."""
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        made = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else None
        fn = getattr(made, "fn", None)
        found = fn if isinstance(made, PTransformWithSideInputs) and fn is not None else found
        traceback = traceback.tb_next
    return None if found is None else culprit(found)


def _applied(traceback: TracebackType | None) -> AppliedPTransform | None:
    """The innermost transform that Beam was at work on."""
    found = None
    while traceback is not None:
        local = traceback.tb_frame.f_locals
        for value in (local.get("self"), local.get("transform_node")):
            if isinstance(value, AppliedPTransform) and value.transform is not None:
                found = value
        traceback = traceback.tb_next
    return found


def culprit(value: Any, name: str = "", depth: int = 0) -> str | None:
    """The innermost attribute, captured variable or argument of a function or object that refuses to be pickled.

    Returns:
        As ``'self.connection' (sqlite3.Connection)``; None where there is nothing to name.
    """
    for inner, part in _parts(value, name):
        if depth < _DEEPEST and not _pickles(part):
            return culprit(part, inner, depth + 1) or f"'{inner}' ({type(part).__name__})"
    return None


def _pickles(value: Any) -> bool:
    try:
        pickling.dumps(value)
    except Exception:
        return False
    return True


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, MethodType):
        yield name, value.__self__
    elif isinstance(value, FunctionType):
        for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield variable, cell.cell_contents
        for variable in value.__code__.co_names:
            if variable in value.__globals__:
                yield variable, value.__globals__[variable]
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{name}[{key!r}]", item
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"{name}[{index}]", item
    else:
        for attribute, item in getattr(value, "__dict__", {}).items():
            yield f"{name}.{attribute}" if name else attribute, item
