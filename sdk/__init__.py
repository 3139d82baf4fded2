"""SAGE: batch and stream jobs written as Apache Beam pipelines."""

from __future__ import annotations

__version__ = "0.1.0"
