"""JSON lines: one JSON object a line, read with dead letters and written as a whole."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio

from sage.transforms.dead_letter import DeadLetter, shorten
from sage.transforms.io.files import ReplaceFile, existing_files
from sage.transforms.io.lines import DEAD, GOOD, Located, ReadResult, as_text, byte_lines, readable_files

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


class WriteJsonLines(beam.PTransform):
    """Write mappings or NamedTuples as one file of JSON lines, sorted, replacing what is there.

    Input: dicts or NamedTuples whose values are JSON values, dates or times (written as ISO 8601). No input
    makes an empty file, so nothing is left over from a run before. Output: the path, once the file is in place.

    Sorting makes equal input equal bytes; it gathers all lines in one worker, so they must fit in its memory.
    For more, ``beam.Map(json.dumps) | beam.io.WriteToText(...)`` writes shards in no particular order.

    Promise: the file appears whole, by rename; a retry writes the same bytes again.

    Args:
        path: the file to write. Missing folders are made.
        sort_by: what to sort the records by, such as ``DeadLetter.place`` (default: the text of their lines).
    """

    def __init__(self, path: str, sort_by: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._path = path
        self._sort_by = sort_by

    def expand(self, records: beam.PCollection[Any]) -> beam.PCollection[str]:
        return (
            records
            | "ToLine" >> beam.Map(_to_line, self._sort_by)
            | "Globally" >> beam.WindowInto(beam.window.GlobalWindows())
            | "Gather" >> beam.combiners.ToList()
            | "Sort" >> beam.Map(_sorted_lines)
            | "Write" >> ReplaceFile(self._path)
        )


# The function is Any here: Beam 2.61 checks arguments against their annotations and fails on a Callable's.
def _to_line(record: Any, sort_by: Any) -> tuple[Any, str]:
    fields: Mapping[str, Any] = record._asdict() if hasattr(record, "_asdict") else record
    line = json.dumps(fields, ensure_ascii=False, default=_plain) + "\n"
    return (sort_by(record) if sort_by else None), line


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form; make it a str or a number first")


def _sorted_lines(lines: list[tuple[Any, str]]) -> list[str]:
    ordered = list(lines)
    # Lines first: records that ``sort_by`` finds equal then still come in an order of their own.
    ordered.sort(key=lambda pair: pair[1])
    if ordered and ordered[0][0] is not None:
        ordered.sort(key=lambda pair: pair[0])
    return [line for _, line in ordered]
