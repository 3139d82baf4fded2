"""How much is taken up at a time, so that what comes behind does not wait for long."""

from __future__ import annotations

TURNS_PER_BUNDLE = 4
"""Turns are so much shorter than the time that elements may wait, for each has to wait for others'."""


class Portion:
    """How many elements to take at a time: as many as they, and the steps behind, take a turn for.

    So a barrier, or what has come from elsewhere, waits for a turn and not for a block's worth of slow calls. It begins
    with one, and at most doubles at a time: what an element costs is known when some have gone through.

    Args:
        most: the largest portion (count).
        turn: how long one may take (microseconds).

    Attributes:
        size: the next one (count).
    """

    def __init__(self, most: int, turn: int) -> None:
        self._most = most
        self._turn = turn
        self.size = 1

    def took(self, rows: int, micros: int) -> None:
        """So many elements took so long (microseconds)."""
        if rows >= self.size or micros > self._turn:
            self.size = max(1, min(rows * self._turn // max(micros, 1), 2 * self.size, self._most))
