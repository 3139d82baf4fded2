"""The vocabulary: Beam transforms that jobs are made of, written against Beam's public API only.

`sage.transforms.io` reads and writes, `sage.transforms.dead_letter` says what happened to rows that could not be
used, `sage.transforms.clean` turns raw records into typed ones, `sage.transforms.joins` joins. Here are `Deduplicate`,
`TopPerKey` and `TopPerWindow`, which keep some of many, and `WindowWithLateOutput`, which gives what came too late to
an output of its own. Names are imported from here on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage.transforms.deduplicate import Deduplicate as Deduplicate
    from sage.transforms.late import WindowWithLateOutput as WindowWithLateOutput
    from sage.transforms.top import TopPerKey as TopPerKey
    from sage.transforms.top import TopPerWindow as TopPerWindow

_HOME = {
    "Deduplicate": "deduplicate",
    "TopPerKey": "top",
    "TopPerWindow": "top",
    "WindowWithLateOutput": "late",
}

__all__ = ["Deduplicate", "TopPerKey", "TopPerWindow", "WindowWithLateOutput"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
