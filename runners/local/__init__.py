"""The embedded runner: one process by default, N worker processes by option."""

from __future__ import annotations

from sage.runners.local.runner import LocalRunner

__all__ = ["LocalRunner"]
