"""The embedded runner: one process by default, N worker processes by option.

The runner is loaded when it is first asked for: the process that workers are forked from begins here, before Beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sage.importing import on_first_use

if TYPE_CHECKING:
    from sage.runners.local.runner import LocalRunner as LocalRunner

__all__ = ["LocalRunner"]

__getattr__ = on_first_use(__name__, {"LocalRunner": "runner"})
