"""Checking keys: what was wrong, what is accepted, and what was probably meant. Nothing here imports Beam."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sage.annotations import fits, hints_of, type_text
from sage.errors import ConfigError

__all__ = ["check_keys", "check_parameters", "check_types", "suggestion"]

_LATER = ("apache_beam.pvalue", "apache_beam.options.value_provider")  # stand for values of another type


def suggestion(key: object, accepted: Collection[str]) -> str:
    """``; did you mean 'x'?`` where one of the accepted keys is near, else nothing.

    >>> suggestion("treshold", ["threshold", "lower"])
    "; did you mean 'threshold'?"
    """
    near = difflib.get_close_matches(str(key), list(accepted), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_keys(owner: str, what: str, given: object, accepted: Collection[str], show: str | None = None) -> None:
    """Refuse a mapping that has a key outside of ``accepted``.

    Args:
        owner: whose mapping it is, as the message shall name it (an operator, an environment).
        what: what the mapping is called, as ``config`` or ``resources``.
        given: what the user gave.
        accepted: the keys that are understood.
        show: how to list the accepted keys; by default all of them.

    Raises:
        ConfigError: it is no mapping, or a key is not accepted.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{owner}: {what} must be a dict, not {type(given).__name__}: {given!r}")
    for key in given:
        if key not in accepted:
            listing = show if show is not None else ", ".join(accepted) or "none, it takes no parameters"
            near = suggestion(key, accepted) or "."
            raise ConfigError(f"{owner}: unknown {what} key {key!r}{near} Accepted keys: {listing}")


def check_parameters(owner: str, target: Callable[..., Any], config: Mapping[str, Any], given: int = 0) -> None:
    """Refuse a config that ``target`` cannot be called with.

    Args:
        owner: the operator, as the message shall name it.
        target: a class or a function; the keys of ``config`` become its keyword arguments.
        given: how many leading positional parameters are filled otherwise (the element of a function).

    Raises:
        ConfigError: a key is not a parameter, a value is not of its parameter's annotated type, or a parameter
            without default has no key.
    """
    if not isinstance(config, Mapping):
        check_keys(owner, "config", config, ())
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return  # Some builtins tell nothing about their parameters; the call itself will judge.
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    free = [p for p in parameters[given:] if p.kind in named]
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        check_keys(owner, "config", config, [p.name for p in free])
    missing = [p.name for p in free if p.default is inspect.Parameter.empty and p.name not in config]
    if missing:
        raise ConfigError(
            f"{owner}: config lacks {', '.join(map(repr, missing))}. "
            f"Pass config={{{', '.join(f'{name!r}: ...' for name in missing)}}}"
        )
    hints = hints_of(target)
    check_types(owner, "config", {key: (value, hints[key]) for key, value in config.items() if key in hints})


def check_types(owner: str, what: str, given: Mapping[str, tuple[object, Any]]) -> None:
    """Refuse values that are not of their annotated types, all of them in one report.

    Args:
        owner: whose values they are, as the message shall name it.
        what: what the mapping is called, as ``config``.
        given: by key, the value and the annotation.

    Raises:
        ConfigError: a value is of another type.
    """
    wrong = [
        f"{what} key {key!r} must be {type_text(hint)}, not {value!r} ({type(value).__name__})"
        for key, (value, hint) in given.items()
        if not type(value).__module__.startswith(_LATER) and not fits(value, hint)
    ]
    if wrong:
        raise ConfigError(f"{owner}: {'; '.join(wrong)}")
