"""Blocks: what flows between stages, a list of values with their timestamps, windows and panes.

Each of the three is shared by the whole block where it is equal, and a list beside the values where it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import PaneInfo, WindowedValue, create

GLOBAL_WINDOWS = (GlobalWindow(),)
NO_FIRING = windowed_value.PANE_INFO_UNKNOWN
MIN_MICROS: int = MIN_TIMESTAMP.micros
MAX_MICROS: int = MAX_TIMESTAMP.micros


class TimestampColumn(list):  # type: ignore[type-arg]
    """Event times beside the values of a block: holds whole microseconds, gives a ``Timestamp`` where one is asked for.

    A stream's elements differ in time, and most steps never look at it.
    """

    @property
    def micros(self) -> Iterator[int]:
        """The event times (microseconds)."""
        return list.__iter__(self)

    @property
    def minimum(self) -> int:
        """The earliest (microseconds)."""
        return min(list.__iter__(self))

    def __iter__(self) -> Iterator[Timestamp]:
        return map(timestamp_of, list.__iter__(self))

    def __getitem__(self, rows: Any) -> Any:
        found = list.__getitem__(self, rows)
        return TimestampColumn(found) if isinstance(rows, slice) else timestamp_of(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and list(self) == list(other)

    __hash__ = None

    def pick(self, rows: Sequence[int]) -> TimestampColumn:
        """The event times at these positions."""
        take = super().__getitem__
        return TimestampColumn([take(row) for row in rows])

    def for_values(self, values: Any) -> Timestamp:
        """The event time of the value that this iterator over the list of values gave last."""
        return timestamp_of(list.__getitem__(self, len(self) - values.__length_hint__() - 1))

    def __reduce__(self) -> Any:
        return TimestampColumn, (list(self.micros),)


def timestamp_of(micros: int) -> Timestamp:
    """The instant of so many microseconds."""
    return Timestamp(micros=micros)


class Block:
    """Values of one collection.

    Args:
        values: the elements.
        timestamps: one ``Timestamp`` for all, or a list beside the values, which may be `TimestampColumn`.
        windows: one tuple of windows for all, or a list of tuples beside the values.
        panes: one ``PaneInfo`` for all, or a list beside the values.
    """

    __slots__ = ("panes", "timestamps", "values", "windows")

    def __init__(
        self,
        values: list[Any],
        timestamps: Timestamp | list[Timestamp] = MIN_TIMESTAMP,
        windows: tuple[Any, ...] | list[tuple[Any, ...]] = GLOBAL_WINDOWS,
        panes: PaneInfo | list[PaneInfo] = NO_FIRING,
    ) -> None:
        self.values = values
        self.timestamps = timestamps
        self.windows = windows
        self.panes = panes

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Block({len(self.values)} values, {'uniform' if self.uniform else 'mixed'})"

    @property
    def uniform(self) -> bool:
        """Whether timestamp, windows and pane are each shared by all values."""
        return not (isinstance(self.timestamps, list) or isinstance(self.windows, list) or isinstance(self.panes, list))

    @property
    def stamped(self) -> bool:
        """Whether windows and pane are shared, and the timestamps are `TimestampColumn`."""
        return isinstance(self.timestamps, TimestampColumn) and not (
            isinstance(self.windows, list) or isinstance(self.panes, list)
        )

    def windowed(self) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """Each value with its windows."""
        return zip(self.values, self.columns()[1], strict=True)

    def columns(self) -> tuple[Sequence[Timestamp], Sequence[tuple[Any, ...]], Sequence[PaneInfo]]:
        """Timestamps, windows and panes, each as long as the values."""
        n = len(self.values)
        return (
            self.timestamps if isinstance(self.timestamps, list) else [self.timestamps] * n,
            self.windows if isinstance(self.windows, list) else [self.windows] * n,
            self.panes if isinstance(self.panes, list) else [self.panes] * n,
        )

    def rows(self) -> Iterator[tuple[Any, Timestamp, tuple[Any, ...], PaneInfo]]:
        """Each value with its timestamp, windows and pane."""
        return zip(self.values, *self.columns(), strict=True)

    def windowed_values(self) -> Iterator[WindowedValue]:
        """Each value as Beam's ``WindowedValue``."""
        stamps, windows, panes = self.columns()
        if isinstance(stamps, TimestampColumn):
            yield from map(create, self.values, stamps.micros, windows, panes)
        else:
            yield from map(WindowedValue, self.values, stamps, windows, panes)

    def pick(self, rows: Sequence[int] | slice) -> Block:
        """The block of the values at these positions."""

        def part(column: Any) -> Any:
            if not isinstance(column, list):
                return column
            if isinstance(rows, slice):
                return column[rows]
            return column.pick(rows) if isinstance(column, TimestampColumn) else [column[row] for row in rows]

        return Block(part(self.values), part(self.timestamps), part(self.windows), part(self.panes))

    def joined(self, behind: Block) -> Block | None:
        """This block and another behind it as one, if what they share is the same; else None."""
        columns: list[Any] = []
        for own, there in zip(self._aligned_columns, behind._aligned_columns, strict=True):
            if isinstance(own, TimestampColumn) and isinstance(there, TimestampColumn):
                columns.append(TimestampColumn([*own.micros, *there.micros]))
            elif type(own) is list and type(there) is list:
                columns.append(own + there)
            elif isinstance(own, list) or isinstance(there, list) or own != there:
                return None
            else:
                columns.append(own)
        return Block(self.values + behind.values, *columns)

    @property
    def _aligned_columns(self) -> tuple[Any, Any, Any]:
        return self.timestamps, self.windows, self.panes

    @staticmethod
    def of(values: Iterable[WindowedValue]) -> Block:
        """A block of windowed values, shared columns found by identity."""
        rows = list(values)
        if not rows:
            return Block([])
        first = rows[0]
        stamp, windows, pane = first.timestamp, first.windows, first.pane_info
        block = Block([row.value for row in rows], stamp, windows, pane)
        if any(row.timestamp is not stamp for row in rows):
            stamps = [row.timestamp for row in rows]
            block.timestamps = stamps if any(s != stamp for s in stamps) else stamp
        if any(row.windows is not windows for row in rows):
            block.windows = [tuple(row.windows) for row in rows]
        else:
            block.windows = tuple(windows)
        if any(row.pane_info is not pane for row in rows):
            block.panes = [row.pane_info for row in rows]
        return block
