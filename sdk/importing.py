"""Importing what a process begins with all at once, and what it may never need on first use."""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["importing", "on_first_use"]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While open, Python's collector of cycles rests, and it never looks at what was there in the end.

    Modules, classes and functions are many objects with next to no garbage among them; looking for it takes a fifth
    of the time that importing Beam does, and again some at each full collection. For a process that does nothing else
    yet: what is garbage by then stays.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def on_first_use(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when they are first asked for.

    Args:
        package: its name.
        home: the module that has each name: one inside the package, or a full name where it has a dot.
    """

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = home[name] if "." in home[name] else f"{package}.{home[name]}"
        return getattr(importlib.import_module(module), name)

    return find
