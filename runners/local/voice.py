"""Another name of `sage.runners.hosting.voice`."""

from __future__ import annotations

from sage.runners.hosting.voice import Echo, Voice, levels

__all__ = ["Echo", "Voice", "levels"]
