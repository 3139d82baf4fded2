"""Joins of two collections, batch or streaming, on columns of rows or on keyed pairs, with SQL's meaning.

`Join` is the plain one, within each window; `IntervalJoin` goes by how near in time two rows are; `AsOfJoin` takes the
latest row at or before; `TableJoin` looks up a table that changes. All take ``(left, right)`` and give pairs;
`MergeColumns` makes one row of each pair.
"""

from sage.transforms.joins.asof import AsOfJoin
from sage.transforms.joins.columns import MergeColumns, On
from sage.transforms.joins.hashed import Join
from sage.transforms.joins.interval import IntervalJoin
from sage.transforms.joins.table import TableJoin

__all__ = ["AsOfJoin", "IntervalJoin", "Join", "MergeColumns", "On", "TableJoin"]
