"""Beam pipeline proto in, physical stages out: an ordered list of small pure passes."""

from __future__ import annotations

from sage.runners.plan.build import PASSES, plan_pipeline

__all__ = ["PASSES", "plan_pipeline"]
