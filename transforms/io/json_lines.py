"""JSON lines: one JSON object a line, read with dead letters, and written exactly once."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio

from sage.transforms.dead_letter import DeadLetter, shorten
from sage.transforms.io.files import FileSink, existing_files
from sage.transforms.io.formats import Lines, as_record
from sage.transforms.io.lines import DEAD, GOOD, Located, ReadResult, as_text, byte_lines, readable_files
from sage.transforms.io.text import SortedLines, line_order

__all__ = ["ReadJsonLines", "WriteJsonLines"]


class ReadJsonLines(beam.PTransform):
    """Read files of JSON lines, encoded as UTF-8; blank lines are skipped.

    Input: the pipeline. Output: a `ReadResult` ``(good, dead)``. A line that is not UTF-8, not JSON or not an
    object goes to ``dead`` with its file, line and reason; the lines around it are read.

    Args:
        files: paths or globs; ``.gz``, ``.bz2`` and ``.zst`` are decompressed.
        with_position: give `Located` records, which know their file and line, in place of plain dicts.

    Raises:
        ConfigError: a path or glob matches no file (when applied, before anything runs).
    """

    def __init__(self, files: str | list[str], with_position: bool = False) -> None:
        super().__init__()
        self._files = files
        self._with_position = with_position

    def expand(self, pbegin: beam.pvalue.PBegin) -> "ReadResult":
        lines = readable_files(pbegin, existing_files(self._files, "JSON lines"))
        outputs = lines | "Parse" >> beam.ParDo(_ParseJsonLines(self._with_position)).with_outputs(DEAD, main=GOOD)
        return ReadResult(outputs[GOOD], outputs[DEAD])


class _ParseJsonLines(beam.DoFn):
    def __init__(self, with_position: bool) -> None:
        self._with_position = with_position

    def process(self, file: fileio.ReadableFile) -> Iterator[Any]:
        path = file.metadata.path
        for number, line in enumerate(byte_lines(file), start=1):
            if not line.strip():
                continue
            try:
                # A byte order mark is not JSON, yet some editors put one at the start of a file.
                value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"))
            except (ValueError, RecursionError) as error:
                yield beam.pvalue.TaggedOutput(DEAD, _refuse(path, number, line, _reason(error)))
                continue
            if not isinstance(value, dict):
                reason = f"a JSON object is needed, this is {_kind(value)}"
                yield beam.pvalue.TaggedOutput(DEAD, _refuse(path, number, line, reason))
                continue
            yield Located(path, number, value) if self._with_position else value


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason} at byte {error.start}"
    if isinstance(error, RecursionError):
        return "not JSON that can be read: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} (column {error.colno})"
    return f"not JSON: {error}"


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _refuse(path: str, number: int, line: bytes, reason: str) -> DeadLetter:
    return DeadLetter("ReadJsonLines", reason, shorten(as_text(line)), path, number)


class WriteJsonLines(FileSink):
    """Write records as JSON lines: one file if the path has an ending, else a folder of parts.

    ``WriteJsonLines("out/letters.jsonl")`` writes one sorted file, also when there is no input, so that nothing is left
    over from a run before. ``WriteJsonLines("out/events")`` writes ``out/events/part-<subtask>-<epoch>.jsonl``.

    Promise: see `FileSink`. On SAGE's local runner exactly once: with each checkpoint, or without them at the end. On
    other runners a folder may get a repeated bundle twice.

    Input: dicts or NamedTuples (or any JSON value) whose values are JSON values, NamedTuples, dates or times (written
    as ISO 8601). What JSON has no form for, NaN for one, fails the step, with the record in the message.
    Output: the path of one file once it is in place; of a folder, nothing.

    Args:
        path: the file or the folder, local or any that fsspec knows.
        sort_by: for one file, what to sort by, such as ``DeadLetter.place`` (default: the text of the lines).
        parts: for a folder, ``destination``, ``suffix`` (default ``".jsonl"``; ``".jsonl.gz"`` compresses),
            ``max_file_bytes`` and ``existing``, as `FileSink` has them.

    Raises:
        ConfigError: an argument is wrong (when constructed or applied).
    """

    def __init__(self, path: str, sort_by: Callable[[Any], Any] | None = None, **parts: Any) -> None:
        super().__init__(path, _JsonLines(), **parts)
        self._sort_by = line_order(self, sort_by)

    def whole(self) -> beam.PTransform:
        return SortedLines(_JsonLines(), self._sort_by)


class _JsonLines(Lines):
    suffix = ".jsonl"

    def line(self, element: Any) -> str:
        try:
            return _ENCODE(as_record(element))
        except ValueError as error:
            told = "NaN and infinite numbers have no JSON form; make them None or a str first"
            if "not JSON compliant" not in str(error):
                told = str(error)
            raise ValueError(f"{told}. The record: {shorten(repr(element), 500)}") from None


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form; make it a str or a number first")


_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).encode
