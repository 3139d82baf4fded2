"""Reading and writing: what jobs need beside Beam's own ``apache_beam.io``.

Readers give two outputs, the good records and the dead letters, each with its file and line.

Writers are the ends of batch and streaming jobs alike. With checkpoints each writes exactly once: files appear
when their checkpoint is durable (`FileSink` says how), database rows are upserted by key or added in the transaction
that commits their checkpoint. Each says what it promises there, without checkpoints, and on other runners.

Names are imported from here on first use, so that a job pays only for what it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sage.importing import on_first_use

if TYPE_CHECKING:
    from sage.transforms.dead_letter import Located as Located
    from sage.transforms.dead_letter import ReadResult as ReadResult
    from sage.transforms.io.avro import WriteAvro as WriteAvro
    from sage.transforms.io.csv_files import ReadCsv as ReadCsv
    from sage.transforms.io.files import FileSink as FileSink
    from sage.transforms.io.files import ReplaceFile as ReplaceFile
    from sage.transforms.io.files import existing_files as existing_files
    from sage.transforms.io.json_lines import ReadJsonLines as ReadJsonLines
    from sage.transforms.io.json_lines import WriteJsonLines as WriteJsonLines
    from sage.transforms.io.parquet import WriteParquet as WriteParquet
    from sage.transforms.io.postgres import WriteToPostgres as WriteToPostgres
    from sage.transforms.io.sqlite import WriteToSqlite as WriteToSqlite
    from sage.transforms.io.text import WriteText as WriteText

_HOME = {
    "FileSink": "files",
    "Located": "sage.transforms.dead_letter",
    "ReadCsv": "csv_files",
    "ReadJsonLines": "json_lines",
    "ReadResult": "sage.transforms.dead_letter",
    "ReplaceFile": "files",
    "WriteAvro": "avro",
    "WriteJsonLines": "json_lines",
    "WriteParquet": "parquet",
    "WriteText": "text",
    "WriteToPostgres": "postgres",
    "WriteToSqlite": "sqlite",
    "existing_files": "files",
}

__all__ = [
    "FileSink",
    "Located",
    "ReadCsv",
    "ReadJsonLines",
    "ReadResult",
    "ReplaceFile",
    "WriteAvro",
    "WriteJsonLines",
    "WriteParquet",
    "WriteText",
    "WriteToPostgres",
    "WriteToSqlite",
    "existing_files",
]

__getattr__ = on_first_use(__name__, _HOME)
