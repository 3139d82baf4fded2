"""Text, a line for each element, and what every format of lines does to write one sorted file."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import operator
from collections.abc import Callable
from typing import Any

import apache_beam as beam

from sage.errors import ConfigError
from sage.transforms.io.files import FileSink
from sage.transforms.io.formats import Lines, encoded_lines
from sage.transforms.io.ordering import sort_by_key
from sage.transforms.io.storage import naming_file, not_stored

__all__ = ["SortedLines", "WriteText", "line_order"]


class WriteText(FileSink):
    """Write text, one line for each element: one file if the path has an ending, else a folder of parts.

    ``WriteText("out/words.txt")`` writes one sorted file. ``WriteText("out/words")`` writes
    ``out/words/part-<subtask>-<epoch>.txt``.

    Promise: see `FileSink`. On SAGE's local runner exactly once: with each checkpoint, or without them at the end. On
    other runners a folder may get a repeated bundle twice.

    Input: ``str``, without the end of the line. Output: the path of one file once it is in place; of a folder, nothing.

    Args:
        path: the file or the folder, local or any that fsspec knows.
        sort_by: for one file, what to sort by (default: the text of the lines); None and NaN come last.
        parts: for a folder, ``destination``, ``suffix`` (default ``".txt"``; ``".txt.gz"`` compresses),
            ``max_file_bytes`` and ``existing``, as `FileSink` has them.

    Raises:
        ConfigError: an argument is wrong (when constructed or applied).
    """

    def __init__(self, path: str, sort_by: Callable[[Any], Any] | None = None, **parts: Any) -> None:
        super().__init__(path, _Text(), **parts)
        self._sort_by = line_order(self, sort_by)

    def whole(self) -> beam.PTransform:
        return SortedLines(_Text(), self._sort_by, self.path)


class _Text(Lines):
    suffix = ".txt"

    def line(self, element: Any) -> str:
        if not isinstance(element, str):
            raise TypeError(f"WriteText takes str, not {type(element).__name__} {element!r}; format the elements first")
        return element


def line_order(sink: FileSink, sort_by: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """``sort_by``, if the sink writes one file.

    Raises:
        ConfigError: it writes a folder, which has no order.
    """
    if sort_by is not None and not sink.one_file:
        raise ConfigError(f"sort_by is for one file; the parts of the folder {sink.path!r} come in no order")
    return sort_by


class SortedLines(beam.PTransform):
    """All elements as one list with the lines of a file, sorted. They must fit in the memory of one worker.

    Args:
        format: how an element becomes its line.
        sort_by: what to sort the elements by (default: their lines); None and NaN come last.
        path: the file, for messages.
    """

    def __init__(self, format: Lines, sort_by: Callable[[Any], Any] | None, path: str = "") -> None:
        super().__init__()
        self._path = path
        self._format = format
        self._sort_by = sort_by

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[list[bytes]]:
        return (
            elements
            | "ToLine" >> beam.Map(_to_line, self._format, self._sort_by, self._path)
            | "Gather" >> beam.combiners.ToList()
            | "Sort" >> beam.Map(_sorted_lines, bool(self._sort_by), self._path)
        )


# The function is Any here: Beam 2.61 checks arguments against their annotations and fails on a Callable's.
def _to_line(element: Any, format: Any, sort_by: Any, path: str) -> tuple[Any, str]:
    try:
        line = format.line(element)
    except (TypeError, ValueError) as error:
        raise not_stored(path, error) from error
    return (sort_by(element) if sort_by else None), line


def _sorted_lines(lines: list[tuple[Any, str]], keyed: bool, path: str) -> list[bytes]:
    ordered = list(lines)
    # Lines first: records that ``sort_by`` finds equal then still come in an order of their own.
    ordered.sort(key=lambda pair: pair[1])
    if keyed:
        sort_by_key(ordered, operator.itemgetter(0), path)
    with naming_file(path):
        return [encoded_lines([line for _, line in ordered])] if ordered else []
