"""The plain join: each left row with each right row that has the same key, in the same window."""

from __future__ import annotations

import apache_beam as beam

from sage import joins
from sage.joins import check_how
from sage.transforms.joins.columns import On, key_functions

__all__ = ["Join"]


class Join(beam.PTransform):
    """SQL's join of two collections, batch or streaming, within each window.

    Input: ``(left, right)``, windowed alike. Rows (dicts, ``beam.Row``, named tuples) joined on columns give
    ``(left, right)``, which `MergeColumns` makes one row of; (key, value) pairs give ``(key, (left, right))``. ``semi``
    and ``anti`` give the left rows, or (key, left value). In windows it is the windowed join::

        (orders, payments) | Join(on="order_id", how="left") | MergeColumns(on="order_id")

    A column or key that is None equals nothing, as NULL in SQL, and so does a key of several columns (a tuple) with
    None among them. Keys are equal where their values are, whatever their types, as `sage.equality.canonical` has it:
    1, 1.0, True and ``numpy.int64(1)``; NaN and NaN. A pair's result has the key of its left row, or that of the right
    one where there is no left. Where both sides of pairs declare one key type that has a coder of the user's, the bytes
    of that coder decide.

    A result comes when its window fires, and has the timestamp of its group: by default the window's end. A row with a
    NULL key that comes out (``left``, ``right``, ``full``, ``anti``) does so at once, with its own timestamp.

    State kept: both sides of each open window. Then the right rows of one key are in memory at a time.

    Args:
        on: the columns, see `On`; None for (key, value) pairs.
        how: ``inner``, ``left``, ``right``, ``full``, ``semi`` or ``anti``.

    Raises:
        ConfigError: a value is none of these; a side is known to have no such column; the sides have different
            windows; or windows fire more than once, each time with what is new only.
    """

    def __init__(self, on: On = None, how: str = "inner") -> None:
        super().__init__()
        self._on, self._how = on, check_how("Join", how)

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        left_key, right_key = key_functions("Join", self._on, *pcollections)
        keys = None if left_key is None or right_key is None else (left_key, right_key)
        return pcollections | "Join" >> joins.Join(self._how, keys)
