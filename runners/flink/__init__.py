"""The Flink runner: the same stages in PyFlink process functions, batch only. PyFlink is imported when a job starts."""

from __future__ import annotations

from sage.runners.flink.runner import FlinkRunner

__all__ = ["FlinkRunner"]
