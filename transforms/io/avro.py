"""Avro files, one or a folder of parts."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import apache_beam as beam

from sage.errors import ConfigError, MissingExtra
from sage.transforms.io.avro_records import AvroRecords
from sage.transforms.io.files import FileSink
from sage.transforms.io.formats import FileFormat, FileWriter, as_record
from sage.transforms.io.ordering import sort_by_key
from sage.transforms.io.scalars import shown
from sage.transforms.io.storage import naming_file
from sage.transforms.io.text import line_order

__all__ = ["WriteAvro"]


# The most that a writer keeps in memory, and half of it when its block is written (bytes).
_BUFFERED = 32_000


class WriteAvro(FileSink):
    """Write mappings or NamedTuples as Avro object containers: one file if the path has an ending, else a folder.

    ``WriteAvro("out/words.avro", schema)`` writes one file, sorted; all records must fit in the memory of one worker.
    ``WriteAvro("out/events", schema)`` writes ``out/events/part-<subtask>-<epoch>.avro``.

    Promise: see `FileSink`. On SAGE's local runner exactly once: with each checkpoint, or without them at the end. On
    other runners a folder may get a repeated bundle twice.

    Input: mappings or NamedTuples that fit the schema; one that does not fails the step, with the field and the record
    in the message: nothing is rounded or cut. A field that is missing has its default, or is null where that fits. A
    time without a zone is one of UTC. Output: the path of one file once it is in place; of a folder, nothing.

    Needs the extra ``avro`` (fastavro). Format: Apache Avro 1.11, object container files.

    Args:
        path: the file or the folder, local or any that fsspec knows.
        schema: an Avro schema, as Python values or as JSON text.
        sort_by: for one file, what to sort by (default: the records as JSON text); None and NaN come last.
        codec: how blocks are compressed: ``null``, ``deflate``, or another that fastavro has.
        parts: for a folder, ``destination``, ``suffix``, ``max_file_bytes`` and ``existing``, as `FileSink` has them.

    Raises:
        ConfigError: the schema is not one, or another argument is wrong.
        MissingExtra: fastavro is not installed.
    """

    def __init__(
        self,
        path: str,
        schema: Mapping[str, Any] | str,
        sort_by: Callable[[Any], Any] | None = None,
        codec: str = "deflate",
        **parts: Any,
    ) -> None:
        fastavro = _fastavro()
        try:
            plain = json.loads(schema if isinstance(schema, str) else json.dumps(schema))
            parsed = fastavro.parse_schema(plain)
        except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as error:
            raise ConfigError(f"this is not an Avro schema ({type(error).__name__}: {error}): {schema!r}") from error
        AvroRecords(parsed)
        try:
            # That a codec's library is missing shows when a block is written, which would be at the end of the job.
            trial = fastavro.write.Writer(io.BytesIO(), "string", codec)
            trial.write("trial")
            trial.flush()
        except (ValueError, TypeError, ImportError) as error:
            raise ConfigError(f"codec={codec!r} cannot be used: {error}") from error
        format = _Avro(plain, codec)
        super().__init__(path, format, **parts)
        self._avro = format
        self._sort_by = line_order(self, sort_by)

    def whole(self) -> beam.PTransform:
        return _Sorted(self.path, self._avro, self._sort_by)


class _Sorted(beam.PTransform):
    """All records as one list with the bytes of an Avro file."""

    def __init__(self, path: str, format: "_Avro", sort_by: Callable[[Any], Any] | None) -> None:
        super().__init__()
        self._path = path
        self._format = format
        self._sort_by = sort_by

    def expand(self, records: beam.PCollection[Any]) -> beam.PCollection[Any]:
        whole = beam.Map(_to_avro, self._format, self._sort_by, self._path)
        return records | "Gather" >> beam.combiners.ToList() | "Sort" >> whole


# The functions are Any here: Beam 2.61 checks arguments against their annotations and fails on a Callable's.
def _to_avro(records: list[Any], format: Any, sort_by: Any, path: str) -> list[bytes]:
    try:
        ordered = sorted(records, key=lambda record: json.dumps(as_record(record), default=str, sort_keys=True))
    except (TypeError, ValueError):
        # A key of a dict is no text, or a record is inside itself: writing tells which one does not fit.
        ordered = list(records)
    if sort_by:
        sort_by_key(ordered, sort_by, path)
    file = io.BytesIO()
    # What marks the blocks of a file is random unless it is given; equal input is to give equal bytes.
    writer = _AvroWriter(file, format, sync=b"sage-block-mark.")
    with naming_file(path):
        for record in ordered:
            writer.write(record)
    writer.close()
    return [file.getvalue()]


class _Avro(FileFormat):
    """State: what makes records fit, which the files of one subtask share."""

    suffix = ".avro"

    def __init__(self, schema: Any, codec: str) -> None:
        self.schema = schema
        self.codec = codec
        self._parsed: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_parsed": None}

    def parsed(self) -> tuple[Any, AvroRecords]:
        """The schema as fastavro takes it, and what makes records fit it."""
        if self._parsed is None:
            schema = _fastavro().parse_schema(self.schema)
            self._parsed = (schema, AvroRecords(schema))
        made: tuple[Any, AvroRecords] = self._parsed
        return made

    def open(self, file: BinaryIO, suffix: str) -> FileWriter:
        return _AvroWriter(file, self)


class _AvroWriter(FileWriter):
    """State: the records of a block, encoded (about 16 KB), and the writer (as much again)."""

    def __init__(self, file: Any, format: _Avro, sync: bytes | None = None) -> None:
        self._file = file
        schema, self._records = format.parsed()
        marker = {} if sync is None else {"sync_marker": sync}
        self._writer = _fastavro().write.Writer(file, schema, format.codec, **marker)

    def write(self, element: Any) -> int:
        record = as_record(element)
        try:
            self._writer.write(self._records.fit(record))
        except (OverflowError, UnicodeEncodeError):
            # Of a record whose types fit: which value it is shows when each is looked at.
            self._records.check(record)
            raise
        except (TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"a record does not fit the Avro schema: {error}. The row: {shown(record)}") from error
        self.buffered = _BUFFERED
        return int(self._file.tell())

    def release(self) -> None:
        self._writer.flush()
        self.buffered = _BUFFERED // 2

    def close(self) -> None:
        self._writer.flush()


def _fastavro() -> Any:
    try:
        import fastavro
        import fastavro.schema
        import fastavro.write
    except ImportError as error:
        raise MissingExtra("writing Avro files", "avro") from error
    return fastavro
