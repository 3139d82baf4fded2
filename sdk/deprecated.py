"""Old names of the public interface: they work as before, and say once per line of code what to write instead."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["adopt_old_methods", "old_names", "warn_renamed"]


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warns that a name is deprecated, at the caller's caller.

    Args:
        old: the name that was used.
        new: the name to write in its place.
        stacklevel: how many frames above this one the use is, as `warnings.warn` counts them.
    """
    warnings.warn(f"{old} is deprecated: write {new}", DeprecationWarning, stacklevel=stacklevel)


def adopt_old_methods(cls: type, renamed: Mapping[str, str]) -> None:
    """Gives a subclass that defines methods or attributes by their old names the new ones.

    To be called from ``__init_subclass__`` of the class whose interface was renamed.

    Args:
        cls: the subclass.
        renamed: old name to new name.
    """
    for old, new in renamed.items():
        if old in vars(cls) and new not in vars(cls):
            warn_renamed(f"{cls.__name__}.{old}", f"{cls.__name__}.{new}", stacklevel=4)
            setattr(cls, new, vars(cls)[old])


def old_names(module: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a module's ``__getattr__`` that finds what was renamed.

    Args:
        module: the module's name.
        renamed: old name to new name, both in this module.
    """

    def find(name: str) -> Any:
        if name in renamed:
            warn_renamed(f"{module}.{name}", f"{module}.{renamed[name]}")
            return getattr(importlib.import_module(module), renamed[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
