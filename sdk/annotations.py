"""Whether a value is of the type that an annotation asks for. Nothing here imports Beam."""

from __future__ import annotations

import collections.abc
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["fits", "hints_of", "type_text"]

_NUMBERS: dict[Any, type] = {int: numbers.Integral, float: numbers.Real, complex: numbers.Number}


def fits(value: object, annotation: Any) -> bool:
    """Whether a value is of an annotated type, as a type checker sees it: an int is a float, a bool an int.

    What cannot be judged at run time fits: a type variable, a protocol, the parameters of a callable, elements of an
    iterator.

    >>> fits("two", int), fits(2, int | None), fits([1, "b"], list[int])
    (False, True, False)
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is types.NoneType:
        return value is None
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if isinstance(annotation, typing.NewType):
        return fits(value, annotation.__supertype__)
    kind: Any = origin if origin is not None else annotation
    if not isinstance(kind, type) or kind is object:
        return True
    if kind is collections.abc.Callable:
        return callable(value)
    try:
        if not isinstance(value, _NUMBERS.get(kind, kind)) and not _is_scalar_of(value, kind):
            return False
    except TypeError:  # a protocol that cannot be looked at
        return True
    return _parts_fit(value, arguments, kind is tuple)


def _is_scalar_of(value: object, kind: type) -> bool:
    """Whether a NumPy scalar is what Python calls bool, str or bytes."""
    return type(value).__module__ == "numpy" and kind.__name__ == type(value).__name__.rstrip("_")


def _parts_fit(value: object, arguments: tuple[Any, ...], is_tuple: bool) -> bool:
    if not arguments:
        return True
    if isinstance(value, tuple):
        if is_tuple and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        return all(fits(each, arguments[0]) for each in value)
    if isinstance(value, Mapping) and len(arguments) == 2:
        return all(fits(key, arguments[0]) and fits(each, arguments[1]) for key, each in value.items())
    if isinstance(value, list | set | frozenset) and len(arguments) == 1:
        return all(fits(each, arguments[0]) for each in value)
    return True


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's or a class's parameters; what names something unknown is left out."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    function = inspect.unwrap(getattr(target, "__init__", target) if isinstance(target, type) else target)
    names = {**getattr(function, "__globals__", {})}
    if isinstance(target, type):
        names = {**vars(inspect.getmodule(target) or types.ModuleType("")), **names}
    found = {}
    for name, parameter in parameters.items():
        hint = parameter.annotation
        if hint is inspect.Parameter.empty:
            continue
        if isinstance(hint, str):
            try:
                hint = eval(hint, names)
            except Exception:
                continue
        found[name] = hint | None if parameter.default is None and isinstance(hint, type) else hint
    return found


def type_text(annotation: Any) -> str:
    """An annotation as its author wrote it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "None" if annotation is types.NoneType else annotation.__name__
    return str(annotation).replace("typing.", "")
