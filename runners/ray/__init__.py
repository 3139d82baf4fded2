"""The Ray runner: the same stages in Ray actors, batch only. Ray is imported when a job starts."""

from __future__ import annotations

from sage.runners.ray.runner import RayRunner

__all__ = ["RayRunner"]
