"""Records that remember their file and line, and the shape of a reader's result."""

import json
from typing import Any, NamedTuple

import apache_beam as beam

from sage.transforms.dead_letter import DeadLetter, shorten

__all__ = ["DEAD", "GOOD", "Located", "ReadResult", "as_text", "each"]

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


def each(values: Any) -> Any:
    """Returns its argument: the function of a step that takes lists of records apart."""
    return values


def as_text(line: bytes) -> str:
    """Bytes that are not UTF-8, made readable: what cannot be decoded is shown as ``\\xNN``."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")
