"""The steps that write rows into a table: upserted by key, or added in the transaction of a checkpoint."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import itertools
import logging
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from sage.errors import CheckpointError, DataLoss
from sage.transactions import BatchSink, SinkContext, TransactionalDoFn
from sage.transforms.io.misfits import first_refused, naming_row
from sage.transforms.io.scalars import shown
from sage.transforms.io.tables import BATCH_ROWS, LEDGER_COLUMNS, STAGED_COLUMNS, Database, Table

__all__ = ["AddRows", "TableSink", "UpsertRows"]

_LOG = logging.getLogger(__name__)


class TableSink(beam.PTransform):
    """Writes mappings or NamedTuples into a table: upserts them if it has a key, else adds each exactly once."""

    def __init__(self, database: Database, table: Table) -> None:
        super().__init__()
        self._database = database
        self._table = table

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        globally = rows | "Globally" >> beam.WindowInto(GlobalWindows())
        if not self._table.key:
            return globally | "Add" >> beam.ParDo(AddRows(self._database, self._table))
        # The table is made once, and first, even when there are no rows: the writers wait for it as a side input.
        ready = (
            rows.pipeline
            | "Once" >> beam.Create([self._table.name])
            | "MakeTable" >> beam.Map(_make, self._database, self._table)
        )
        upsert = UpsertRows(self._database, self._table)
        return globally | "Upsert" >> beam.ParDo(upsert, beam.pvalue.AsSingleton(ready))


def _make(name: str, database: Any, table: Any) -> str:
    database.make(table)
    database.close()
    return name


class UpsertRows(beam.DoFn):
    """Collects the rows of a bundle and upserts them in transactions; keeps nothing between bundles."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._places = [table.columns.index(name) for name in table.key]
        self._sql = database.dialect.upsert(table.name, table.columns, table.key)
        self._rows: list[tuple[Any, ...]] = []

    def start_bundle(self) -> None:
        # A bundle that failed half-way may have left rows here; its retry brings them again.
        self._rows = []

    def process(self, row: Any, _ready: str) -> Iterator[int]:
        self._rows.append(self._database.row(self._table, row))
        if len(self._rows) >= BATCH_ROWS:
            yield self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield GlobalWindows.windowed_value_at_end_of_window(self._flush())

    def teardown(self) -> None:
        self._database.close()

    def _flush(self) -> int:
        rows, self._rows = self._rows, []
        # In one order everywhere, so that two workers with the same keys wait for each other and never both.
        rows.sort(key=self._key_of)
        naming = naming_row(self._database, self._table, rows, self._upsert)
        with naming, self._database.transaction() as cursor:
            self._upsert(cursor, rows)
        return len(rows)

    def _upsert(self, cursor: Any, rows: list[tuple[Any, ...]]) -> None:
        cursor.executemany(self._sql, rows)

    def _key_of(self, row: tuple[Any, ...]) -> tuple[str, ...]:
        return tuple(repr(row[place]) for place in self._places)


class Staged(NamedTuple):
    """The rows of one epoch and subtask, in the database and not in the table: what a checkpoint holds of the sink."""

    run: str
    origin: str
    subtask: int
    batch: int
    epoch: int
    rows: int


class AddRows(BatchSink, TransactionalDoFn):
    """Stages rows, and moves those of an epoch into the table in one transaction.

    State: the rows that are not staged yet (some 5,000 at most), and how many of the epoch are.
    """

    def __init__(self, database: Database, table: Table) -> None:
        dialect = database.dialect
        self._database = database
        self._table = table
        self._staging = dialect.staging(table)
        self._ledger = dialect.ledger(table)
        self._rows: list[tuple[Any, ...]] = []

    def recover(self, context: SinkContext, prepared: Sequence[Staged]) -> None:
        self._job, self._step = context.job, context.step
        self._subtask, self._subtasks = context.subtask, context.subtasks
        self._swept = not self._managed
        self._run = uuid.uuid4().hex[:16]
        self._origin = prepared[-1].origin if prepared else self._run
        self._batch = self._staged = 0
        self._rows = []
        self._database.make(self._table)
        self._database.make_staging(self._table)
        if self._managed:
            if prepared:
                self._refuse_rewind(prepared)
            elif self._subtask == 0:
                self._tell_of_earlier()
            for handle in prepared:
                self.commit(handle)
            self._unstage(context.earlier)

    def write_batch(self, elements: list[Any]) -> None:
        as_row, table = self._database.row, self._table
        self._rows += [as_row(table, row) for row in elements]
        if len(self._rows) >= BATCH_ROWS:
            self._stage()

    def prepare(self, epoch: int) -> Staged:
        if self._rows:
            self._stage()
        # An epoch without rows is told too: that there is a handle is how a resumed subtask knows that it is one.
        handle = Staged(self._run, self._origin, self._subtask, self._batch, epoch, self._staged)
        self._batch += 1
        self._staged = 0
        return handle

    def commit(self, handle: Staged) -> None:
        if handle.rows:
            try:
                self._move(handle)
            except ValueError as error:
                raise ValueError(
                    f"{error} (the rows wait in table {self._staging!r}: mend them there, or what they conflict with, "
                    f"and start the job again){self._first_unmoved(handle)}"
                ) from error
        if handle.run == self._run and not self._swept:
            self._swept = True
            self._unstage([self._subtask], beyond=self._subtasks if self._subtask == 0 else None)

    def _move(self, handle: Staged) -> None:
        sql = self._database.dialect
        which = f"{sql.quoted('sage_run')} = {sql.mark} AND {sql.quoted('sage_batch')} = {sql.mark}"
        columns = sql.listed(self._table.columns)
        with self._database.transaction() as cursor:
            cursor.execute(f"SELECT batch FROM {sql.table(self._ledger)} WHERE run = {sql.mark}", (handle.run,))
            last = cursor.fetchone()
            if last is not None and last[0] >= handle.batch:
                return
            move = f"INSERT INTO {sql.table(self._table.name)} ({columns}) SELECT {columns} "
            cursor.execute(
                f"{move} FROM {sql.table(self._staging)} WHERE {which} ORDER BY sage_row", (handle.run, handle.batch)
            )
            if cursor.rowcount != handle.rows:
                raise DataLoss(
                    f"of {handle.rows} rows for table {self._table.name!r} that the checkpoint holds (epoch "
                    f"{handle.epoch}), {cursor.rowcount} are in {self._staging!r}: somebody removed the others. Make "
                    "them again by starting the job from an older checkpoint or from its beginning."
                )
            cursor.execute(f"DELETE FROM {sql.table(self._staging)} WHERE {which}", (handle.run, handle.batch))
            cursor.execute(
                sql.upsert(self._ledger, LEDGER_COLUMNS, ("run",)),
                (handle.run, handle.origin, self._job, self._step, handle.subtask, handle.batch, handle.epoch),
            )

    def teardown(self) -> None:
        try:
            if not self._managed and hasattr(self, "_run"):
                with self._database.transaction() as cursor:
                    sql = self._database.dialect
                    cursor.execute(f"DELETE FROM {sql.table(self._staging)} WHERE sage_run = {sql.mark}", (self._run,))
        finally:
            self._database.close()

    def _stage(self) -> None:
        rows, self._rows = self._rows, []
        about = (self._job, self._step, self._subtask, self._run, self._batch)
        columns = (*STAGED_COLUMNS, *self._table.columns)

        # Rows that are written again, one by one, to find the one that is refused, must not clash either.
        numbers = itertools.count(self._staged)

        def stage(cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
            numbered = [(*about, number, *row) for number, row in zip(numbers, rows, strict=False)]
            self._database.add(cursor, self._staging, columns, numbered)

        with naming_row(self._database, self._table, rows, stage), self._database.transaction() as cursor:
            stage(cursor, rows)
        self._staged += len(rows)

    def _first_unmoved(self, handle: Staged) -> str:
        """Returns the part of a message that shows the first staged row that the table refuses."""
        sql = self._database.dialect
        columns, names = sql.listed(self._table.columns), self._table.columns
        which = " AND ".join(f"{sql.quoted(name)} = {sql.mark}" for name in ("sage_run", "sage_batch"))
        with self._database.transaction() as cursor:
            select = f"SELECT {columns} FROM {sql.table(self._staging)} WHERE {which} ORDER BY sage_row"
            cursor.execute(select, (handle.run, handle.batch))
            rows = [tuple(row) for row in cursor.fetchall()]

        def insert(cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
            cursor.executemany(sql.insert(self._table.name, names), rows)

        found = first_refused(self._database, rows, insert)
        return f". The row: {shown(dict(zip(names, found[0], strict=True)))}" if found else ""

    def _unstage(self, subtasks: Collection[int], beyond: int | None = None) -> None:
        """Removes the rows that earlier starts staged and no checkpoint holds.

        On recovery those of the subtasks that this one answers for: what the checkpoint holds of them is committed.
        Once a checkpoint of this start is durable, all that any checkpoint held is committed: then those of this
        number, and, by one subtask for all, those of numbers from ``beyond`` on, which there are no more.
        """
        sql = self._database.dialect
        which = [f"sage_subtask = {sql.mark}"] * len(subtasks)
        numbers = list(subtasks)
        if beyond is not None:
            which.append(f"sage_subtask >= {sql.mark}")
            numbers.append(beyond)
        if which:
            with self._database.transaction() as cursor:
                cursor.execute(
                    f"DELETE FROM {sql.table(self._staging)} WHERE sage_job = {sql.mark} AND sage_step = {sql.mark} "
                    f"AND sage_run <> {sql.mark} AND ({' OR '.join(which)})",
                    (self._job, self._step, self._run, *numbers),
                )

    def _tell_of_earlier(self) -> None:
        """Tells a job that begins anew of the rows that it put out before."""
        sql = self._database.dialect
        with self._database.transaction() as cursor:
            cursor.execute(
                f"SELECT COUNT(*) FROM {sql.table(self._ledger)} WHERE job = {sql.mark} AND step = {sql.mark}",
                (self._job, self._step),
            )
            found = cursor.fetchone()[0]
        if found:
            message = "table %r has rows of an earlier run of this job: it begins anew, and adds to them"
            _LOG.info(message, self._table.name)

    def _refuse_rewind(self, prepared: Sequence[Staged]) -> None:
        """Rows of epochs after the checkpoint cannot be told from others, and would be there twice."""
        sql = self._database.dialect
        last = max(handle.epoch for handle in prepared)
        with self._database.transaction() as cursor:
            cursor.execute(
                f"SELECT MAX(epoch) FROM {sql.table(self._ledger)} WHERE origin = {sql.mark} AND epoch > {sql.mark}",
                (self._origin, last),
            )
            later = cursor.fetchone()[0]
        if later is not None:
            raise CheckpointError.unfit(
                f"table {self._table.name!r} has rows of epochs up to {later}, and the job is to go on from epoch "
                f"{last}: what it makes again would be there twice, for rows without a key do not tell their epoch. "
                "Go on from the latest checkpoint; or bring the table to what it was, such as from a backup, and "
                f"remove from {self._ledger!r} the notes with origin {self._origin!r} and epoch > {last}; or write "
                "with key=, by which a row that comes again is the same row."
            )
