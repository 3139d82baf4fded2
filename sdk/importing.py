"""Importing a great deal at the beginning of a process."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["importing"]


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
