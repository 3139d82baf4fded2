"""How long tests wait. A limit is there to find a hang, so it is far beyond what any machine needs.

``SAGE_TEST_PATIENCE`` multiplies every limit (default 4): set it higher on a machine that is slower still, or to 1 to
find a hang sooner.
"""

from __future__ import annotations

import os

__all__ = ["FACTOR", "patience"]

FACTOR = float(os.environ.get("SAGE_TEST_PATIENCE", "4"))
"""What every limit is multiplied by."""


def patience(seconds: float) -> float:
    """Returns how long to wait (seconds) for what takes at most ``seconds`` on an idle machine of two cores."""
    return seconds * FACTOR
