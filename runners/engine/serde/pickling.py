"""The cloudpickle that Beam pickles functions with.

Each copy of cloudpickle knows its own classes only: a class of the user's main script that came with a function is the
same class in a value, an error or a handle only if one copy has pickled them all.

What cloudpickle leaves to be found by its name, although it comes from the main script, goes by value as well: cached
functions, generic functions, new types and parameters of generic types. In the process that they come from they come
back as the same object, and in another one each becomes one object.
"""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import functools
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from apache_beam.internal.cloudpickle_pickler import cloudpickle

_dumps = cloudpickle.dumps
# What dataclasses tells by identity goes by its name: the cloudpickle of Beam 2.61 makes copies, and a dataclass of the
# main script that has come back then has no fields. (Its class in the driver is changed with it.)
copyreg.pickle(type(dataclasses._FIELD), lambda kind: kind.name)  # type: ignore[attr-defined]
copyreg.pickle(type(dataclasses.MISSING), lambda missing: "MISSING")
# A package of its own beside Beam 2.61, a module of Beam's later.
_module = getattr(cloudpickle, "cloudpickle", cloudpickle)
_came = _module._DYNAMIC_CLASS_TRACKER_BY_ID
# A class that comes with a function is known by a random identifier: a test that pins ``uuid.uuid4`` would have one
# class taken for another.
_module.uuid = types.SimpleNamespace(uuid4=_module.uuid.uuid4)


_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_by_token: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _has_name(value: Any) -> bool:
    """Whether another process can import a value by its module and name."""
    module = getattr(value, "__module__", None)
    if module in (None, "__main__", "__mp_main__") or module in _module._PICKLE_BY_VALUE_MODULES:
        return False
    found: Any = sys.modules.get(module)
    for name in getattr(value, "__qualname__", value.__name__).split("."):
        found = getattr(found, name, None)
    return found is value


def _token(value: Any) -> str:
    """What a value is known by in all processes."""
    token = _tokens.get(value)
    if token is None:
        token = _module.uuid.uuid4().hex
        _tokens[value], _by_token[token] = token, value
    return token


def _made(token: str, make: Callable[..., Any], *args: Any) -> Any:
    """The value of a token: the one that is in this process, or a new one."""
    value = _by_token.get(token)
    if value is None:
        value = make(*args)
        _tokens[value], _by_token[token] = token, value
    return value


def _reduce_cached(cached: Any) -> Any:
    """A function in ``functools.lru_cache``; the cache itself stays behind."""
    if _has_name(cached) or not hasattr(cached, "__wrapped__"):
        return cached.__qualname__
    parameters = cached.cache_parameters()
    rest = {name: value for name, value in vars(cached).items() if name != "__wrapped__"}
    args = _token(cached), _cached, cached.__wrapped__, parameters["maxsize"], parameters["typed"]
    return _made, args, rest or None


def _cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _reduce_new_type(new_type: Any) -> Any:
    if _has_name(new_type):
        return new_type.__qualname__
    return (
        _made,
        (_token(new_type), typing.NewType, new_type.__name__, new_type.__supertype__),
        {
            "__module__": new_type.__module__,
            "__qualname__": new_type.__qualname__,
        },
    )


def _reduce_type_parameter(parameter: Any) -> Any:
    if _has_name(parameter):
        return parameter.__name__
    return _made, (_token(parameter), type(parameter), parameter.__name__)


copyreg.pickle(type(functools.lru_cache(len)), _reduce_cached)
copyreg.pickle(typing.NewType, _reduce_new_type)
for _kind in ("ParamSpec", "TypeVarTuple"):
    if hasattr(typing, _kind):
        copyreg.pickle(getattr(typing, _kind), _reduce_type_parameter)
# A generic function (functools.singledispatch) keeps its methods in these.
copyreg.pickle(types.MappingProxyType, lambda proxy: (types.MappingProxyType, (dict(proxy),)))
copyreg.pickle(weakref.WeakKeyDictionary, lambda found: (weakref.WeakKeyDictionary, (dict(found),)))


def dumps(value: Any) -> bytes:
    """A value as bytes that ``pickle.loads`` takes, classes and functions of the main script included.

    Raises:
        Exception: what the value itself, or cloudpickle, has against that.
    """
    return bytes(_dumps(value))


def classes_of_main() -> tuple[bytes, ...]:
    """The classes that the driver's main script has made, each pickled by value; those that cannot be are left out."""
    made = []
    for found in vars(sys.modules["__main__"]).values():
        if isinstance(found, type) and found.__module__ == "__main__":
            with contextlib.suppress(Exception):
                made.append(dumps(found))
    return tuple(made)


def name_classes_of_main(sent: Iterable[bytes] = ()) -> None:
    """Puts the classes of the driver's main script into this process's ``__main__``: those sent, and those that came
    with functions.

    A value of such a class is pickled by the class's name, in state and on its way to other workers. The name has to
    lead to the class here, as it does in the driver.
    """
    came = []
    for each in sent:
        with contextlib.suppress(Exception):  # a job that needs it says so
            came.append(pickle.loads(each))
    main = vars(sys.modules["__main__"])
    for found in [*came, *_came.values()]:
        if found.__module__ == "__main__" and "." not in found.__qualname__:
            main.setdefault(found.__qualname__, found)
