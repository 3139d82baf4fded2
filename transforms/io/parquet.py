"""One sorted Parquet file, replaced as a whole. For more data than one worker holds: ``beam.io.WriteToParquet``."""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from sage.errors import ConfigError
from sage.transforms.io.files import ReplaceFile

__all__ = ["WriteParquetFile"]

# Rows are gathered as Arrow batches: a tenth of the memory that the same rows take as Python objects.
_BATCH_ROWS = 10_000


class WriteParquetFile(beam.PTransform):
    """Write mappings or NamedTuples as one Parquet file with a fixed order of rows, replacing what is there.

    Beam's ``WriteToParquet`` writes shards in no particular order, and a run with fewer shards leaves some of the
    run before. This writes one file, so that equal input gives equal bytes on any runner with any number of
    workers. All rows pass through one worker as Arrow, so they must fit in its memory.

    Input: mappings or NamedTuples with the columns of the schema (a missing one is null). No input makes a file
    without rows. Output: the path, once the file is in place.

    Promise: the file appears whole, by rename; a retry writes the same bytes again.

    Args:
        path: the file to write. Missing folders are made.
        schema: names and types of the columns; a value that does not fit fails the step.
        sort_by: the columns to sort by; the other columns break ties.

    Raises:
        ConfigError: ``sort_by`` names a column that the schema lacks.
    """

    def __init__(self, path: str, schema: pa.Schema, sort_by: Sequence[str] = ()) -> None:
        super().__init__()
        missing = [name for name in sort_by if name not in schema.names]
        if missing:
            raise ConfigError(f"sort_by names {missing[0]!r}; the columns are {', '.join(schema.names)}")
        self._path = path
        self._schema = schema
        self._order = [*sort_by, *(name for name in schema.names if name not in sort_by)]

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[str]:
        return (
            rows
            | "Globally" >> beam.WindowInto(beam.window.GlobalWindows())
            | "Batch" >> beam.BatchElements(min_batch_size=_BATCH_ROWS, max_batch_size=_BATCH_ROWS)
            | "ToArrow" >> beam.Map(_to_arrow, self._schema)
            | "Gather" >> beam.combiners.ToList()
            | "Sort" >> beam.Map(_to_parquet, self._schema, self._order)
            | "Write" >> ReplaceFile(self._path)
        )


def _to_arrow(rows: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    if hasattr(rows[0], "_fields"):
        columns = [[getattr(row, name) for row in rows] for name in schema.names]
    else:
        columns = [[row.get(name) for row in rows] for name in schema.names]
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise ValueError(f"column {field.name!r} is {field.type}, and a value is not: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _to_parquet(batches: list[pa.RecordBatch], schema: pa.Schema, order: list[str]) -> list[bytes]:
    table = pa.Table.from_batches(batches, schema)
    # One chunk a column: where batches were cut must not show in the file.
    table = table.sort_by([(name, "ascending") for name in order]).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return [sink.getvalue().to_pybytes()]
