"""Where the generator stands in the loops it writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Here:
    """The names, in the source, of the value at hand and of what goes with it.

    ``stamps_vary`` and its like say whether they differ between elements of one call; ``single`` that there is
    exactly one window; ``count`` is the source of how many elements have come this far when the call ends;
    ``rest`` is the source of the arguments with which the rest of the innermost iteration can be taken over.
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

    @staticmethod
    def start(mixed: bool) -> Here:
        """At the head of the outermost loop."""
        if mixed:
            return Here("v", "t", "w", "p", "len(values)", True, True, True, False)
        return Here("v", "stamps", "windows", "panes", "len(values)", False, False, False, True)
