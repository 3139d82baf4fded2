"""Key groups: keys hash to a fixed number of groups, and groups are spread over the workers in ranges.

So a job can change its number of workers without any key changing its group.
"""

from __future__ import annotations

KEY_GROUPS = 128


def worker_of(group: int, workers: int) -> int:
    """The worker that has a key group: groups are spread in ranges."""
    return group * workers // KEY_GROUPS
