"""Dead letters: one vocabulary for the elements that a job could not use, and why.

A step that meets a bad element does not stop the job and does not drop it in silence. It sends a `DeadLetter` to
a second output, and the job writes these where a person will look. Beam's ``with_exception_handling`` catches
what a function raises; `ToDeadLetters` turns what it caught into the same vocabulary::

    parsed, failed = rows | "Parse" >> beam.Map(parse).with_exception_handling()
    letters = failed | ToDeadLetters(step="Parse")
"""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import apache_beam as beam

__all__ = ["DEAD", "GOOD", "MAX_PAYLOAD_CHARS", "DeadLetter", "Located", "ReadResult", "ToDeadLetters", "shorten"]

MAX_PAYLOAD_CHARS = 10_000
"""How much of a bad element a dead letter keeps (characters); one huge element must not fill the disk twice."""


class DeadLetter(NamedTuple):
    """One element that a step could not use.

    Attributes:
        step: the step that refused it.
        reason: why, in words for the person who will mend it.
        payload: the element as text, shortened to `MAX_PAYLOAD_CHARS`.
        source: where the element came from (a file, a topic), empty if that is not known.
        line: the line in that file, counted from 1, or None.
    """

    step: str
    reason: str
    payload: str
    source: str = ""
    line: int | None = None

    def place(self) -> tuple[str, int, str]:
        """What to sort dead letters by, so that they read file by file and line by line."""
        return (self.source, self.line or 0, self.step)

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line is not None else self.source
        return f"{place or self.step}: {self.reason}"


def shorten(text: str, limit: int = MAX_PAYLOAD_CHARS) -> str:
    """``text``, cut at ``limit`` characters, with a mark that says how many were cut."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more characters)"


class ToDeadLetters(beam.PTransform):
    """What ``with_exception_handling`` caught, as `DeadLetter`s.

    Input: Beam's ``(element, (exception class, repr, traceback lines))``. Output: `DeadLetter`.

    Args:
        step: the name of the step that raised.
        payload: makes the text to keep from an element (default: its ``repr``).
        locate: makes ``(source, line)`` from an element (default: ``("", None)``).
    """

    def __init__(
        self,
        step: str,
        payload: Callable[[Any], str] = repr,
        locate: Callable[[Any], tuple[str, int | None]] | None = None,
    ) -> None:
        super().__init__()
        self._step = step
        self._payload = payload
        self._locate = locate

    def expand(self, failed: beam.PCollection[Any]) -> beam.PCollection[DeadLetter]:
        return failed | "ToDeadLetter" >> beam.Map(_to_letter, self._step, self._payload, self._locate)


# The functions are Any here: Beam 2.61 checks arguments against their annotations and fails on a Callable's.
def _to_letter(failure: Any, step: str, payload: Any, locate: Any) -> DeadLetter:
    element, (_, shown, trace) = failure
    source, line = locate(element) if locate else ("", None)
    # The last line of a traceback is "ClassName: message"; the repr is what is left of an exception without one.
    reason = trace[-1].strip() if trace else shown
    return DeadLetter(step, reason, shorten(payload(element)), source, line)


GOOD, DEAD = "good", "dead"
"""The tags of a reader's outputs."""


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
