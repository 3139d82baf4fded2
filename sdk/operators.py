"""An operator's function in any of its three forms, checked where the user writes it.

A function or lambda, an instance of a function class, or a class plus a config dict whose keys are the
constructor's parameters. Nothing here imports Beam.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sage.checks import check_parameters
from sage.errors import ConfigError
from sage.functions import FilterFunction, FlatMapFunction, Function, MapFunction

__all__ = ["ResolvedFunction", "declared_output", "element_of", "resolve"]


@dataclass(frozen=True)
class ResolvedFunction:
    """What an operator runs, resolved.

    Attributes:
        kind: the operator, as ``map``.
        function: an instance of a function class, or a plain callable.
        label: the step's default label, as ``map(Parse)``.
        is_object: whether ``function`` is an instance of a function class.
        arguments: keyword arguments for a plain callable; they may be Beam side inputs.
    """

    kind: str
    function: Any
    label: str
    is_object: bool
    arguments: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> Callable[..., Any] | None:
        """What takes an element by a mere call; None for an object that must be opened or closed, or is no call."""
        if not self.is_object:
            return self.function
        if not isinstance(self.function, (MapFunction, FlatMapFunction, FilterFunction)):
            return None
        cls = type(self.function)
        if cls.open is not Function.open or cls.close is not Function.close:
            return None
        return getattr(self.function, self.kind)

    def bound(self) -> Callable[..., Any]:
        """The plain callable with its keyword arguments filled in."""
        return functools.partial(self.function, **self.arguments) if self.arguments else self.function


def resolve(
    kind: str,
    function: object,
    accepts: type | tuple[type, ...],
    config: Mapping[str, Any] | None = None,
    positional: int = 1,
) -> ResolvedFunction:
    """Bring a function, an instance or a class plus config into one form.

    Args:
        kind: the operator, as ``map``.
        function: what the user gave.
        accepts: the function classes that the operator takes.
        config: constructor parameters of a class, or keyword arguments of a function.
        positional: how many arguments a plain function gets from the operator (1 element, 2 values to reduce).

    Raises:
        ConfigError: it is none of the three forms, belongs to another operator, or the config does not fit it.
    """
    wanted = accepts if isinstance(accepts, tuple) else (accepts,)
    label = f"{kind}({_name(function)})"
    if isinstance(function, type) and _is_function_class(function, wanted, config):
        return ResolvedFunction(kind, _construct(label, function, config or {}), label, issubclass(function, wanted))
    if isinstance(function, wanted):
        if config is not None:
            raise ConfigError(f"{label}: config goes with a class; this is an instance, already constructed")
        return ResolvedFunction(kind, function, label, True)
    if isinstance(function, Function) or (isinstance(function, type) and issubclass(function, Function)):
        names = " or ".join(cls.__name__ for cls in wanted)
        raise ConfigError(f"{label}: {kind} takes a function or a {names}, not a {_base_name(function)}")
    if not callable(function):
        names = " or ".join(cls.__name__ for cls in wanted)
        raise ConfigError(
            f"{label}: expected a function, a {names} instance, or such a class with config; "
            f"got {type(function).__name__}"
        )
    if config is not None:
        check_parameters(label, function, config, given=positional)
    return ResolvedFunction(kind, function, label, False, dict(config or {}))


def _is_function_class(cls: type, wanted: tuple[type, ...], config: Mapping[str, Any] | None) -> bool:
    """Whether a class is to be constructed; else it is itself the function, as in ``map(str)``."""
    if issubclass(cls, wanted):
        return True
    if issubclass(cls, Function):
        return False
    return config is not None and "__call__" in _own_names(cls)


def _own_names(cls: type) -> set[str]:
    return {name for base in cls.__mro__ if base is not object for name in vars(base)}


def _construct(label: str, cls: type, config: Mapping[str, Any]) -> Any:
    check_parameters(label, cls, config)
    try:
        return cls(**config)
    except Exception as error:
        raise ConfigError(
            f"{label}: {cls.__name__}(**{dict(config)!r}) raised {type(error).__name__}: {error}"
        ) from error


def _name(function: object) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def _base_name(function: object) -> str:
    cls = function if isinstance(function, type) else type(function)
    for base in cls.__mro__:
        if base.__module__.startswith("sage."):
            return base.__name__
    return cls.__name__


def declared_output(method: object) -> Any:
    """The return annotation of a user's method, or None where it says nothing that a coder could use."""
    try:
        hint = typing.get_type_hints(method).get("return")
    except Exception:
        return None  # Names that only a type checker can resolve.
    return None if hint is None or hint is type(None) or _is_vague(hint) else hint


def element_of(hint: Any) -> Any:
    """``X`` of ``Iterable[X] | None``, ``Iterator[X]``, ``Generator[X, ...]`` or ``list[X]``; None for others."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if type(None) in arguments and len(arguments) == 2:
        return element_of(next(argument for argument in arguments if argument is not type(None)))
    if not inspect.isclass(origin) or not issubclass(origin, Iterable) or origin in (dict, tuple):
        return None
    return None if not arguments or _is_vague(arguments[0]) else arguments[0]


def _is_vague(hint: Any) -> bool:
    if hint is Any or isinstance(hint, (typing.TypeVar, str, typing.ForwardRef)):
        return True
    return any(_is_vague(argument) for argument in typing.get_args(hint) if argument is not Ellipsis)
