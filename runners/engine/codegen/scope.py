"""Where the generator stands in the loops it writes, and what goes into them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Columns(enum.Enum):
    """What the function is given beside the values: one for all of them, or columns."""

    NONE = "one timestamp, window and pane"
    STAMPS = "`TimestampColumn`, one window and pane"
    ALL = "columns of timestamps, windows and panes"
    ALL_STAMPS = "`TimestampColumn`, and columns of windows and panes"


@dataclass(frozen=True)
class ElementScope:
    """The names, in the source, of the value at hand and of what goes with it.

    ``stamps_vary`` and its like say whether they differ between elements of one call; ``single`` that there is
    exactly one window; ``count`` is the source of how many elements have come this far when the call ends;
    ``rest`` is the source of the arguments with which the rest of the innermost iteration can be taken over;
    ``micros`` that of the timestamp in microseconds, where that is at hand and ``stamp`` costs more.
    """

    value: str
    stamp: str
    windows: str
    pane: str
    count: str
    stamps_vary: bool
    windows_vary: bool
    panes_vary: bool
    single: bool
    rest: str = ""
    micros: str = ""

    @staticmethod
    def uniform() -> ElementScope:
        """At the head of the loop over values that share all that goes with them."""
        return ElementScope("v", "stamps", "windows", "panes", "len(values)", False, False, False, True)

    @staticmethod
    def stamped(stamp: str) -> ElementScope:
        """At the head of the loop over values that share all but their timestamps."""
        return ElementScope("v", stamp, "windows", "panes", "len(values)", True, False, False, True, micros="t")

    @staticmethod
    def mixed() -> ElementScope:
        """At the head of the loop over values beside columns of all that goes with them."""
        return ElementScope("v", "t", "w", "p", "len(values)", True, True, True, False)

    @staticmethod
    def mixed_stamped(stamp: str) -> ElementScope:
        """The same, where the timestamps are whole microseconds."""
        return ElementScope("v", stamp, "w", "p", "len(values)", True, True, True, False, micros="t")
