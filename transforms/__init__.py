"""The vocabulary: Beam transforms that jobs are made of, written against Beam's public API only.

`sage.transforms.io` reads and writes, `sage.transforms.dead_letter` says what happened to rows that could not be
used, `sage.transforms.clean` turns raw records into typed ones, `sage.transforms.joins` joins. Here are `Deduplicate`,
`TopPerKey` and `TopPerWindow`, which keep some of many, and `WindowWithLateOutput`, which gives what came too late to
an output of its own. Names are imported from here on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sage.importing import on_first_use

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

__getattr__ = on_first_use(__name__, _HOME)
