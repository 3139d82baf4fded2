"""Reading and writing: what jobs need beside Beam's own ``apache_beam.io``.

Readers give two outputs, the good records and the dead letters, each with its file and line. Writers replace a
whole file at once or upsert by key, so that running a job twice leaves what running it once leaves.

Names are imported from here on first use, so that a job pays only for what it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage.transforms.io.csv_files import ReadCsv as ReadCsv
    from sage.transforms.io.files import ReplaceFile as ReplaceFile
    from sage.transforms.io.files import existing_files as existing_files
    from sage.transforms.io.json_lines import ReadJsonLines as ReadJsonLines
    from sage.transforms.io.json_lines import WriteJsonLines as WriteJsonLines
    from sage.transforms.io.lines import Located as Located
    from sage.transforms.io.lines import ReadResult as ReadResult
    from sage.transforms.io.parquet import WriteParquetFile as WriteParquetFile
    from sage.transforms.io.sqlite import WriteToSqlite as WriteToSqlite

_HOME = {
    "Located": "lines",
    "ReadCsv": "csv_files",
    "ReadJsonLines": "json_lines",
    "ReadResult": "lines",
    "ReplaceFile": "files",
    "WriteJsonLines": "json_lines",
    "WriteParquetFile": "parquet",
    "WriteToSqlite": "sqlite",
    "existing_files": "files",
}

__all__ = [
    "Located",
    "ReadCsv",
    "ReadJsonLines",
    "ReadResult",
    "ReplaceFile",
    "WriteJsonLines",
    "WriteParquetFile",
    "WriteToSqlite",
    "existing_files",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
