"""Parquet files, one sorted or a folder of parts."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sage.errors import ConfigError
from sage.transforms.dead_letter import shorten
from sage.transforms.io.arrow_columns import Misfit, arrow_column
from sage.transforms.io.files import FileSink
from sage.transforms.io.formats import FileFormat, FileWriter, as_record
from sage.transforms.io.scalars import shown, type_name
from sage.transforms.io.storage import naming_file

__all__ = ["WriteParquet"]

# Rows are gathered as Arrow batches: a tenth of the memory that the same rows take as Python objects.
_BATCH_ROWS = 10_000
# A row group is what a reader skips or takes at once.
_GROUP_ROWS = 100_000
# How often a row's memory is measured, and what a row takes beside its values, and a column of a batch (bytes).
_SIZED_ROWS = 16
_ROW_BYTES = 300
_COLUMN_BYTES = 500


class WriteParquet(FileSink):
    """Write mappings or NamedTuples as Parquet: one file if the path has an ending, else a folder of parts.

    ``WriteParquet("out/words.parquet", schema)`` writes one file with a fixed order of rows, so that equal input gives
    equal bytes with any number of workers; all rows pass through one worker as Arrow and must fit in its memory. No
    input makes a file without rows. ``WriteParquet("out/events", schema)`` writes
    ``out/events/part-<subtask>-<epoch>.parquet``.

    Promise: see `FileSink`. On SAGE's local runner exactly once: with each checkpoint, or without them at the end. On
    other runners a folder may get a repeated bundle twice.

    Input: mappings or NamedTuples with the columns of the schema; a missing one is null. A value that does not fit, or
    a column that the schema lacks, fails the step, with the row and the column in the message; nothing is rounded or
    cut to fit. Output: the path of one file once it is
    in place; of a folder, nothing.

    Args:
        path: the file or the folder, local or any that fsspec knows.
        schema: names and types of the columns. Without one it is inferred from the first rows that a subtask writes (up
            to 10,000; for one file from all rows), and later rows must fit it.
        sort_by: for one file, the columns to sort by; the other columns break ties. NaN comes behind all numbers, and
            null last.
        compression: of the pages, as Arrow names it: ``snappy``, ``zstd``, ``gzip``, ``none`` ...
        parts: for a folder, ``destination``, ``suffix``, ``max_file_bytes`` and ``existing``, as `FileSink` has them.

    Raises:
        ConfigError: ``sort_by`` names a column that the schema lacks, or another argument is wrong.
    """

    def __init__(
        self,
        path: str,
        schema: pa.Schema | None = None,
        sort_by: Sequence[str] = (),
        compression: str = "snappy",
        **parts: Any,
    ) -> None:
        super().__init__(path, _Parquet(schema, compression), **parts)
        if schema is not None:
            _check_order(sort_by, schema.names)
            _check_comparable(sort_by, schema)
        if sort_by and not self.one_file:
            raise ConfigError(f"sort_by is for one file; the parts of the folder {self.path!r} come in no order")
        try:
            known = compression.lower() == "none" or pa.Codec.is_available(compression.lower())
        except ValueError:
            known = False
        if not known:
            raise ConfigError(f"compression={compression!r} is not one that this pyarrow has, such as 'snappy', 'zstd'")
        self._schema = schema
        self._sort_by = tuple(sort_by)
        self._compression = compression

    def whole(self) -> beam.PTransform:
        return _Sorted(self.path, self._schema, self._sort_by, self._compression)


def _check_order(sort_by: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in sort_by if name not in columns]
    if missing:
        raise ConfigError(f"sort_by names {missing[0]!r}; the columns are {', '.join(columns)}")


def _check_comparable(sort_by: Sequence[str], schema: pa.Schema) -> None:
    for name in sort_by:
        kind = _comparable(schema.field(name).type)
        if kind is None:
            raise ConfigError(
                f"sort_by names {name!r}, and values of {schema.field(name).type} have no order; name other columns"
            )


class _Sorted(beam.PTransform):
    """All rows as one list with the bytes of a Parquet file."""

    def __init__(self, path: str, schema: pa.Schema | None, sort_by: tuple[str, ...], compression: str) -> None:
        super().__init__()
        self._path = path
        self._schema = schema
        self._sort_by = sort_by
        self._compression = compression

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        return (
            rows
            | "Batch" >> beam.BatchElements(min_batch_size=_BATCH_ROWS, max_batch_size=_BATCH_ROWS)
            | "ToArrow" >> beam.Map(_to_batch, self._schema, self._path)
            | "Gather" >> beam.combiners.ToList()
            | "Sort" >> beam.Map(_to_file, self._schema, self._sort_by, self._compression, self._path)
        )


class _Parquet(FileFormat):
    """State: the schema that was inferred, which the files of one subtask share."""

    suffix = ".parquet"

    def __init__(self, schema: pa.Schema | None, compression: str) -> None:
        self._schema = schema
        self._inferred = schema is None
        self._compression = compression

    def open(self, file: BinaryIO, suffix: str) -> FileWriter:
        return _ParquetWriter(self, file, self._compression)

    def batch(self, rows: list[Any]) -> pa.RecordBatch:
        """The rows in the schema; the first ones make it, if none was given."""
        try:
            batch = _to_arrow(rows, self._schema)
        except ValueError as error:
            if self._inferred and self._schema is not None:
                raise ValueError(f"{error} (the schema was inferred from the first rows; give schema=)") from error
            raise
        self._schema = batch.schema
        return batch


class _ParquetWriter(FileWriter):
    """State: the rows of the batch that is being filled, and the batches of the row group.

    `release` makes a batch of the rows, which takes a tenth of the memory; or where there are none, a row group.
    """

    def __init__(self, format: _Parquet, file: BinaryIO, compression: str) -> None:
        self._format = format
        self._file = file
        self._compression = compression
        self._writer: Any = None
        self._rows: list[Any] = []
        self._batches: list[pa.RecordBatch] = []
        self._row_bytes = 0
        self._size = 0

    def write(self, element: Any) -> int:
        if len(self._rows) % _SIZED_ROWS == 0:
            self._row_bytes = _memory_of(element)
        self._rows.append(element)
        self.buffered += self._row_bytes
        if len(self._rows) >= _BATCH_ROWS:
            self._to_batch()
            if sum(batch.num_rows for batch in self._batches) >= _GROUP_ROWS:
                self._to_file()
        return self._size

    def release(self) -> None:
        if self._rows:
            self._to_batch()
        else:
            self._to_file()

    def close(self) -> None:
        self._to_batch()
        self._to_file()
        self._writer.close()

    def _to_batch(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            batch = self._format.batch(rows)
            self._batches.append(batch)
            self._size += batch.nbytes
            self._count()

    def _to_file(self) -> None:
        if self._batches:
            batches, self._batches = self._batches, []
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._file, batches[0].schema, compression=self._compression)
            self._writer.write_table(pa.Table.from_batches(batches))
            self._count()

    def _count(self) -> None:
        self.buffered = sum(batch.nbytes + _COLUMN_BYTES * batch.num_columns for batch in self._batches)


def _memory_of(element: Any) -> int:
    values = element.values() if isinstance(element, Mapping) else element if isinstance(element, tuple) else ()
    return _ROW_BYTES + sum(map(sys.getsizeof, values))


def _to_arrow(rows: list[Any], schema: pa.Schema | None) -> pa.RecordBatch:
    """The rows as Arrow.

    Raises:
        ValueError: a row does not fit; the message has its column and the row.
    """
    records: list[Mapping[str, Any]] = [as_record(row) for row in rows]
    if schema is None:
        # In the order in which columns are first seen.
        names = list(dict.fromkeys(name for record in records for name in record))
        types: list[pa.DataType | None] = [None] * len(names)
    else:
        names, types = schema.names, schema.types
    arrays = []
    for name, kind in zip(names, types, strict=True):
        values = [record.get(name) for record in records]
        try:
            arrays.append(arrow_column(values, kind))
        except Misfit as error:
            raise ValueError(_why_not(records, values, name, kind, error)) from error
    known = set(names)
    for record in records:
        if not known.issuperset(record):
            extra = next(name for name in record if name not in known)
            raise ValueError(
                f"a row has a column {extra!r} that the schema lacks ({', '.join(names)}): {shown(record)}"
            )
    return pa.RecordBatch.from_arrays(arrays, names=names) if schema is None else _in_schema(arrays, schema, records)


def _in_schema(arrays: list[Any], schema: pa.Schema, records: Sequence[Any]) -> pa.RecordBatch:
    for field, array in zip(schema, arrays, strict=True):
        if not field.nullable and array.null_count:
            row = next(record for record, value in zip(records, array, strict=True) if not value.is_valid)
            raise ValueError(f"column {field.name!r} must not be null, and it is in {shown(row)}")
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _why_not(records: list[Any], values: list[Any], name: str, kind: Any, error: Misfit) -> str:
    if error.row is None:
        return f"column {name!r} {error}"
    value = values[error.row]
    what, row = f"{type_name(value)} {shorten(repr(value), 100)}", shown(records[error.row])
    if kind is None:
        return f"column {name!r} cannot store {what}: {error}. The row: {row}"
    return f"column {name!r} is {kind}, and {what} is not ({error}). Convert it, or change the schema. The row: {row}"


def _to_batch(rows: list[Any], schema: pa.Schema | None, path: str) -> pa.RecordBatch:
    with naming_file(path):
        return _to_arrow(rows, schema)


def _to_file(
    batches: list[pa.RecordBatch], schema: pa.Schema | None, sort_by: tuple[str, ...], compression: str, path: str
) -> list[bytes]:
    with naming_file(path):
        return _to_parquet(batches, schema, sort_by, compression)


def _to_parquet(
    batches: list[pa.RecordBatch], schema: pa.Schema | None, sort_by: tuple[str, ...], compression: str
) -> list[bytes]:
    if schema is None:
        tables = [pa.Table.from_batches([batch]) for batch in batches]
        try:
            table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
        except pa.ArrowException as error:
            raise ValueError(f"the rows do not have one schema ({error}); give schema=") from error
        if tables:
            _check_order(sort_by, table.column_names)
            _check_comparable(sort_by, table.schema)
    else:
        table = pa.Table.from_batches(batches, schema)
    if table.num_rows:
        # One chunk a column: where batches were cut must not show in the file.
        table = _ordered(table, sort_by).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression)
    return [sink.getvalue().to_pybytes()]


def _ordered(table: pa.Table, sort_by: tuple[str, ...]) -> pa.Table:
    """Returns the rows sorted by some columns, and where those are equal by all the others."""
    names = [*sort_by, *(name for name in table.column_names if name not in sort_by)]
    keys = pa.table([_sort_key(table.column(name)) for name in names], [str(place) for place in range(len(names))])
    places = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    return pa.table([_taken(column, places) for column in table.columns], schema=table.schema)


def _sort_key(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = _comparable(column.type)
    if kind is not None:
        return column if kind == column.type else column.cast(kind)
    # What has no order, such as a list, breaks ties by its text: equal input is to give equal bytes.
    return pa.chunked_array([pa.array([None if value is None else repr(value) for value in column.to_pylist()])])


def _taken(column: pa.ChunkedArray, places: pa.Array) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        # Its dictionary is in the order in which values were first seen, which must not show in the file.
        values = pa.chunked_array([column.cast(column.type.value_type).take(places).combine_chunks()])
        return values.dictionary_encode().cast(column.type)
    try:
        return column.take(places)
    except pa.ArrowNotImplementedError:
        values = column.to_pylist()
        return pa.chunked_array([pa.array([values[place] for place in places.to_pylist()], column.type)])


def _comparable(kind: pa.DataType) -> pa.DataType | None:
    """Returns the type as which Arrow sorts values of a type; None if they have no order."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_float16(kind):
        return pa.float32()
    for view, plain_kind in (("is_string_view", pa.string()), ("is_binary_view", pa.binary())):
        if hasattr(pa.types, view) and getattr(pa.types, view)(kind):
            return plain_kind
    trial = pa.table({"a": pa.nulls(2, kind), "b": pa.nulls(2, pa.int64())})
    try:
        pc.sort_indices(trial, sort_keys=[("a", "ascending"), ("b", "ascending")])
    except pa.ArrowException:
        return None
    return kind
