"""How many elements to take at a time: from what batches cost, a fixed part each and a part per row."""

from __future__ import annotations

TURNS_PER_BUNDLE = 4
"""Turns are so much shorter than the time that elements may wait, for each has to wait for others'."""

SHARE = 9
"""The rows of a batch are to take so many times as long as its fixed part: a tenth of the time is lost at most."""

_MEMORY = 15 / 16  # what an observation weighs beside the next one
_NOISE = 0.02  # of a cost (ratio): what is never taken for certain
_CERTAIN = 2.0  # standard errors
_SPREAD = 0.01  # of sizes (relative variance): with less, the parts can hardly be told from each other
_ROUNDING = 1e-6


class CostModel:
    """Fits ``micros = fixed + per_row * rows`` to the batches of late, the newest counting most.

    Batches are weighted by ``1 / rows``, for the more rows there are, the more a cost varies; with ``S`` for the sum
    over batches::

        per_row = (S(1/rows) * S(micros) - S(1) * S(micros/rows)) / (S(1/rows) * S(rows) - S(1) ** 2)
        fixed   = (S(rows) * S(micros/rows) - S(1) * S(micros))   / (S(1/rows) * S(rows) - S(1) ** 2)

    For example, batches of 1 and of 4 rows that took 34 and 46 us cost 30 us and 4 us for each row. Of the fixed part,
    only what is beyond two standard errors is believed: where each row costs what it likes, a few batches that happen
    to cost the same do not look like batches whose rows are free.

    State: the sums, each observation in them counting 15/16 of the next.
    """

    def __init__(self) -> None:
        self._count = self._inverse = self._rows = self._rate = self._micros = self._square = 0.0

    def observe(self, rows: int, micros: int) -> None:
        """Adds a batch: its size (count) and its cost (microseconds)."""
        self._count = self._count * _MEMORY + 1
        self._inverse = self._inverse * _MEMORY + 1 / rows
        self._rows = self._rows * _MEMORY + rows
        self._rate = self._rate * _MEMORY + micros / rows
        self._micros = self._micros * _MEMORY + micros
        self._square = self._square * _MEMORY + micros * micros / rows

    @property
    def _determinant(self) -> float:
        return self._inverse * self._rows - self._count * self._count

    @property
    def varied(self) -> bool:
        """Whether batches were of different sizes, so that the two parts can be told from each other."""
        return self._determinant > _SPREAD * self._inverse * self._rows

    @property
    def fixed(self) -> float:
        """What a batch costs whatever its size (microseconds), as far as it is certain."""
        if self._determinant <= _ROUNDING * self._inverse * self._rows:
            return 0.0
        per_row = (self._inverse * self._micros - self._count * self._rate) / self._determinant
        fixed = (self._rows * self._rate - self._count * self._micros) / self._determinant
        unexplained = max(self._square - fixed * self._rate - per_row * self._micros, 0.0)
        variance = unexplained / max(self._count - 2, 1) + _NOISE * _NOISE * self._square / self._count
        certain: float = fixed - _CERTAIN * (variance * self._rows / self._determinant) ** 0.5
        return max(certain, 0.0)

    def per_row(self, fixed: float) -> float:
        """What a row costs (microseconds) if a batch costs ``fixed`` besides."""
        return max((self._micros - fixed * self._count) / self._rows, 1e-3)


class AdaptiveBatchSize:
    """How many elements to take at a time: as many as they, and the steps behind, take a turn for; or, if a batch has
    a fixed cost beside that of its rows, as many as make up for it.

    So a barrier, or what has come from elsewhere, waits for a turn and not for a block's worth of slow calls, and who
    commits or calls a service once for a batch does it for many rows. With a fixed cost ``F`` and a cost ``c`` for each
    row (microseconds), a batch has ``max(turn - F, 9 * F) / c`` rows. A turn of 12,500 us, for example, has 125 rows of
    100 us; with a commit of 30,000 us it has 2,700, and takes 300,000 us of which the commit is a tenth.

    The size grows by a factor at most, since what an element costs is known when some have gone through. Where all
    sizes were the same, and slow, another one is tried now and then.

    Args:
        most: the largest size (count).
        turn: how long a batch may take (microseconds).
        first: the size to begin with (count).
        growth: by how much a size may be larger than the one before (ratio).

    Attributes:
        size: the next one (count).
    """

    def __init__(self, most: int, turn: int, first: int = 1, growth: int = 2) -> None:
        self._most = most
        self._turn = turn
        self._growth = growth
        self._cost = CostModel()
        self.size = first

    @property
    def fixed_micros(self) -> float:
        """What a batch costs whatever its size (microseconds), as far as it is certain."""
        return self._cost.fixed

    def observe(self, rows: int, micros: int) -> None:
        """Takes note that so many elements (count) took so long (microseconds)."""
        if rows < 1:
            return
        self._cost.observe(rows, micros)
        if micros <= self._turn:
            if rows >= self.size:
                self._resize(rows * self._turn // max(micros, 1))
        elif not self._cost.varied:
            self._resize(rows * self._growth if rows < self.size else rows // 2 or 2)
        elif fixed := self._cost.fixed:
            self._resize(int(max(self._turn - fixed, SHARE * fixed) / self._cost.per_row(fixed)))
        else:
            self._resize(rows * self._turn // micros)

    def _resize(self, rows: int) -> None:
        self.size = max(1, min(rows, self._growth * self.size, self._most))
