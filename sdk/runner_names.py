"""SAGE's runners by their short names. Imports nothing, so that a command line can ask it at once."""

from __future__ import annotations

__all__ = ["RUNNERS"]

RUNNERS = {
    "local": "sage.runners.local.LocalRunner",
    "ray": "sage.runners.ray.RayRunner",
    "flink": "sage.runners.flink.FlinkRunner",
}
"""Short name to dotted name, by which Beam loads a runner."""
