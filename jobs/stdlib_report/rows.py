"""The rows that the report writes, and their Parquet schemas."""

# Annotations are evaluated here, not postponed: Beam reads the rows' types from them.
import datetime
from typing import NamedTuple

import pyarrow as pa

__all__ = ["SCHEMAS", "BusyWindow", "ModuleUse", "Totals", "WordCount"]


class WordCount(NamedTuple):
    """How often a word stands in the source. Kind: ``name``, ``keyword`` or ``word``."""

    kind: str
    word: str
    occurrences: int


class ModuleUse(NamedTuple):
    """A module, who defines it, and how many files import it.

    Origin: ``source`` (a file of the tree), ``compiled`` (part of Python, without source in the tree) or
    ``elsewhere`` (not part of either).
    """

    module: str
    origin: str
    defined_in: str
    importers: int


class BusyWindow(NamedTuple):
    """How many files, and bytes, were last changed from ``start`` (UTC, included) to ``end`` (not included)."""

    start: datetime.datetime
    end: datetime.datetime
    files: int
    bytes: int


class Totals(NamedTuple):
    """Sizes of all decoded files together. Lines and bytes are those of their text, as UTF-8."""

    files: int
    lines: int
    bytes: int


_TIME = pa.timestamp("s", "UTC")

SCHEMAS = {
    WordCount: pa.schema([("kind", pa.string()), ("word", pa.string()), ("occurrences", pa.int64())]),
    ModuleUse: pa.schema(
        [("module", pa.string()), ("origin", pa.string()), ("defined_in", pa.string()), ("importers", pa.int64())]
    ),
    BusyWindow: pa.schema([("start", _TIME), ("end", _TIME), ("files", pa.int64()), ("bytes", pa.int64())]),
}
"""The Parquet schema of each kind of row."""
