"""Records that remember their file and line, and the shape of a reader's result."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io import fileio

from sage.transforms.dead_letter import DeadLetter, shorten

__all__ = ["DEAD", "GOOD", "Located", "ReadResult", "as_text", "byte_lines", "readable_files"]

GOOD = "good"
DEAD = "dead"


class Located(NamedTuple):
    """A record and the place it came from.

    Attributes:
        source: the file.
        line: the line on which the record begins, counted from 1.
        value: the record, a dict from column to value.
    """

    source: str
    line: int
    value: dict[str, Any]

    def refuse(self, step: str, reason: str) -> DeadLetter:
        """The dead letter that says why ``step`` cannot use this record."""
        payload = json.dumps(self.value, ensure_ascii=False, default=str)
        return DeadLetter(step, reason, shorten(payload), self.source, self.line)


class ReadResult(NamedTuple):
    """What a reader returns: ``good, dead = p | ReadCsv(...)``.

    Attributes:
        good: the records, `Located` or plain dicts as asked for.
        dead: a `DeadLetter` for each line that is not a record.
    """

    good: beam.PCollection
    dead: beam.PCollection


def readable_files(pbegin: beam.pvalue.PBegin, files: Iterable[str]) -> beam.PCollection[fileio.ReadableFile]:
    """The files as elements, spread over the workers. Each is read by one worker, from its first line on."""
    return (
        pbegin
        | "Files" >> beam.Create(list(files))
        | "Match" >> fileio.MatchAll(fileio.EmptyMatchTreatment.DISALLOW)
        | "Spread" >> beam.Reshuffle()
        | "Open" >> fileio.ReadMatches()
    )


def byte_lines(file: fileio.ReadableFile) -> Iterator[bytes]:
    """The lines of a file, decompressed by its name's ending, with their line ends."""
    with file.open() as handle:
        # Beam's reader of compressed files has readline but cannot be iterated.
        yield from iter(handle.readline, b"")


def as_text(line: bytes) -> str:
    """Bytes that are not UTF-8, made readable: what cannot be decoded is shown as ``\\xNN``."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")
