"""Finds the row, of the thousands that a statement carries, which a database refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sage.transforms.io.scalars import misfit, shown
from sage.transforms.io.tables import Database, Table

__all__ = ["first_refused", "naming_row"]

Row = tuple[Any, ...]
Write = Callable[[Any, list[Row]], None]


@contextlib.contextmanager
def naming_row(database: Database, table: Table, rows: Sequence[Row], write: Write) -> Iterator[None]:
    """Adds the row, and the column where it is known, to the ``ValueError`` of a block that writes rows.

    Args:
        database: where the block writes.
        table: the table that the rows are for, with the names of their columns.
        rows: all rows of the block.
        write: writes some of them with a cursor, as the block does.
    """
    try:
        yield
    except ValueError as error:
        for row in rows:
            for column, value in zip(table.columns, row, strict=True):
                reason = database.unstorable(value)
                if reason:
                    fields = dict(zip(table.columns, row, strict=True))
                    raise misfit(f"table {table.name!r}", column, value, reason, fields) from error
        found = first_refused(database, rows, write)
        if found is None:
            raise
        row, cause = found
        if "column" not in str(cause):
            # Rows that are loaded in bulk are parsed column by column, and the error then names the column.
            bulk = first_refused(
                database, [row], lambda cursor, one: database.add(cursor, table.name, table.columns, one)
            )
            cause = bulk[1] if bulk and "column" in str(bulk[1]) else cause
        raise ValueError(f"{cause}. The row: {shown(dict(zip(table.columns, row, strict=True)))}") from error


class _Undo(Exception):
    """Rolls a trial back."""


def first_refused(database: Database, rows: Sequence[Row], write: Write) -> tuple[Row, ValueError] | None:
    """Returns the first row that fails when rows are written one by one, and its error; leaves nothing written."""
    current: Row = ()
    try:
        with database.transaction() as cursor:
            for row in rows:
                current = row
                write(cursor, [row])
            raise _Undo
    except ValueError as error:
        return current, error
    except (_Undo, OSError):
        return None
