"""The embedded runner: one process by default, N worker processes by option.

The runner is loaded when it is first asked for: the process that workers are forked from begins here, before Beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage.runners.local.runner import LocalRunner as LocalRunner

__all__ = ["LocalRunner"]


def __getattr__(name: str) -> Any:
    if name != "LocalRunner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sage.runners.local.runner import LocalRunner

    return LocalRunner
