"""The stream-table join: each row of a stream with what a changing table says at the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.coders import FastPrimitivesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from sage.deprecated import warn_renamed
from sage.errors import ConfigError
from sage.joins import LEFT, JoinKind, check_how, is_null, row_of
from sage.transforms.joins.columns import On, join_kind
from sage.transforms.joins.timed import at, timed_join

__all__ = ["TableJoin"]

_TABLE_AS = ("state", "side")
Deleted = Callable[[Any], bool]


class TableJoin(beam.PTransform):
    """Joins the rows of a stream with a table that changes, each with what the table holds when it comes by.

    Input: ``(stream, table)``. Output: as of `Join`, with the stream row's timestamp. The table is held in one of two
    ways.

    ``state``: the table is a stream of upserts. The latest row of a key, by event time and then by arrival, is the
    table's row for this key; it is kept for ever, and by the workers that have the key. A stream row is joined at once
    with the row that is there, so a repeated run may differ where the two race; `AsOfJoin` waits, and does not. Where
    stream and table both end, the stream is joined with the table as it is at its end. Windows are those of the
    stream and must be the same for both; mostly there are none.

    ``side``: the table goes to every worker whole and has any number of rows per key; a stream row waits until it is
    there. For a table that fits into memory. To have it replaced now and then, give it whole in each of its windows:
    a stream row sees the window that its own maps to, as with any Beam side input.

    Args:
        on: the columns, see `On`; None for (key, value) pairs.
        how: ``inner``, ``left``, ``semi`` or ``anti``.
        table_as: ``state`` or ``side``.
        deleted: whether a row of the table (of pairs: its value) says that its key is gone; for ``state`` only.

    Raises:
        ConfigError: a value is none of these; or as for `Join`.
    """

    def __init__(
        self,
        on: On = None,
        how: str = "inner",
        table_as: str = "state",
        deleted: Deleted | None = None,
        **renamed: str,
    ) -> None:
        super().__init__()
        if "held" in renamed:
            warn_renamed("TableJoin(held=...)", "TableJoin(table_as=...)")
            table_as = renamed.pop("held")
        if renamed:
            raise TypeError(f"TableJoin() got an unexpected keyword argument {next(iter(renamed))!r}")
        if table_as not in _TABLE_AS:
            raise ConfigError(f"TableJoin: table_as must be one of {', '.join(_TABLE_AS)}, not {table_as!r}")
        if deleted is not None and table_as != "state":
            raise ConfigError("TableJoin: deleted is for a table that is held as state")
        self._on, self._table_as, self._deleted = on, table_as, deleted
        self._how = check_how("TableJoin", how, ("inner", "left", "semi", "anti"))

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        stream, table = pcollections
        kind = join_kind("TableJoin", self._how, self._on, stream, table)
        if self._table_as == "state":
            current = _Current(kind, self._deleted)
            return timed_join("TableJoin", pcollections, kind, current, current.at_end)
        kind = kind.typed(stream, table)
        keyed = table | "Keyed" >> beam.FlatMap(_Keyed(kind)).with_output_types(typehints.Tuple[kind.key_type, Any])
        look = beam.ParDo(_Look(kind), beam.pvalue.AsMultiMap(keyed))
        return stream | "Look" >> look.with_output_types(kind.output_type(stream, table))


class _Keyed:
    """Table rows under their keys; NULL is under none."""

    def __init__(self, kind: JoinKind) -> None:
        self.kind, self.key_of = kind, kind.right_key

    def __call__(self, row: Any) -> Any:
        key, row = self.kind.keyed_row(row) if self.key_of is None else (self.key_of(row), row)
        return () if is_null(key) else ((key, row),)


class _Look(beam.DoFn):
    """The results of one stream row."""

    def __init__(self, kind: JoinKind) -> None:
        self.kind = kind

    def process(self, row: Any, table: Any) -> Iterator[Any]:
        kind = self.kind
        key, row = kind.keyed_row(row) if kind.left_key is None else (kind.left_key(row), row)
        matches = () if is_null(key) else table[key]
        found = False
        for match in matches:
            found = True
            if kind.one_sided:
                break
            yield kind.result(key, row, match)
        if found != kind.keeps_left and (kind.one_sided or not found):
            yield kind.result(key, row, None)


class _Current(beam.DoFn):
    """One key: the table's row, and the stream's rows passing by."""

    ROW = ReadModifyWriteStateSpec("row", FastPrimitivesCoder())

    def __init__(self, kind: JoinKind, deleted: Deleted | None) -> None:
        self.kind, self.deleted = kind, deleted

    def process(self, element, current=beam.DoFn.StateParam(ROW)):  # type: ignore[no-untyped-def]
        key, (side, stamp, row) = element
        known = current.read()
        if side == LEFT:
            return self._result(key, row, known)
        if known is None or known[0] <= stamp:
            # What is deleted leaves its time behind, so that an older row that comes later does not bring it back.
            gone = self.deleted is not None and self.deleted(row_of(row))
            current.write((stamp, gone, None if gone else row))
        return ()

    def _result(self, key: Any, row: Any, known: Any) -> Any:
        kind, found = self.kind, known is not None and not known[1]
        if kind.one_sided:
            return () if found == kind.keeps_left else (kind.result(key, row, None),)
        if not found and not kind.keeps_left:
            return ()
        return (kind.result(key, row, known[2] if found else None),)

    def at_end(self, key: Any, lefts: list[Any], rights: list[Any], last: int) -> Iterator[Any]:
        """The results of one key when all of the table is there."""
        known = None
        for stamp, row in rights[-1:]:
            known = (stamp, self.deleted is not None and self.deleted(row_of(row)), row)
        for stamp, row in lefts:
            for result in self._result(key, row, known):
                yield at(stamp, result)
