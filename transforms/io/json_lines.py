"""JSON lines: one JSON object a line, read with dead letters, and written exactly once."""

import codecs
import datetime
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from sage.transforms.dead_letter import DEAD, GOOD, DeadLetter, Located, ReadResult, shorten
from sage.transforms.io.decompression import DamagedFile
from sage.transforms.io.files import FileSink
from sage.transforms.io.formats import Lines, as_record
from sage.transforms.io.lines import as_text, each
from sage.transforms.io.listing import Paths, find_files
from sage.transforms.io.ranges import FileRange, LineBlocks, LineCounts, damaged_file, file_ranges
from sage.transforms.io.text import SortedLines, line_order

__all__ = ["ReadJsonLines", "WriteJsonLines"]


class ReadJsonLines(beam.PTransform):
    """Read files of JSON lines, encoded as UTF-8; blank lines are skipped.

    Input: the pipeline. Output: a `ReadResult` ``(good, dead)``. A line that is not UTF-8, not JSON or not an
    object goes to ``dead`` with its file, line and reason; the lines around it are read. So does one with a value
    that Python or the next step cannot hold: ``NaN`` and infinite numbers, also written as ``1e999``, half of a
    surrogate pair, an integer of more than 4,300 digits, and what is nested too deeply. Of a name that an object has
    twice, the last value is taken, as Python does. Numbers with a fraction or an exponent become ``float``.

    A compressed file that is cut off or damaged gives one dead letter that says where, and a warning in the log; the
    lines before that place are read. Plain files are read in ranges, by all workers.

    Args:
        files: paths or globs, see `existing_files`; ``.gz``, ``.bz2``, ``.zst``, ``.xz``, ``.lz4`` and ``.deflate`` are
            decompressed.
        with_position: give `Located` records, which know their file and line, in place of plain dicts.

    Raises:
        ConfigError: a path or glob matches no file, or a file has a compression that is not read (when applied, before
            anything runs).
    """

    def __init__(self, files: Paths, with_position: bool = False) -> None:
        super().__init__()
        self._files = files
        self._with_position = with_position

    def expand(self, pbegin: beam.pvalue.PBegin) -> "ReadResult":
        parts = file_ranges(pbegin, find_files(self._files, "JSON lines"), split=True)
        outputs = parts | "Parse" >> beam.ParDo(_ParseJsonLines(self._with_position)).with_outputs(DEAD, main=GOOD)
        return ReadResult(outputs[GOOD] | "Records" >> beam.FlatMap(each), outputs[DEAD])


# Python looks for cycles when some hundreds of containers more are there than before; so few at a time it does not.
_AT_A_TIME = 64


class _ParseJsonLines(beam.DoFn):
    """Yields lists of records, a block of lines at a time, and dead letters."""

    def __init__(self, with_position: bool) -> None:
        self._with_position = with_position

    def setup(self) -> None:
        self._counts = LineCounts()

    def process(self, part: tuple[str, int, int]) -> Iterator[Any]:
        path = part[0]
        blocks = LineBlocks(FileRange(*part), self._counts)
        begin = part[1] == 0
        try:
            for block in blocks:
                lines = block.split(b"\n")
                if begin and lines[0].startswith(codecs.BOM_UTF8):
                    # It is not JSON, yet some editors put one at the start of a file.
                    lines[0] = lines[0][len(codecs.BOM_UTF8) :]
                begin = False
                good: list[Any] = []
                first = blocks.first_line() if self._with_position else 0
                for index, line in enumerate(lines):
                    try:
                        if (value := _parsed(line)) is None:
                            continue
                    except ValueError as error:
                        letter = _refuse(path, blocks.first_line() + index, line, str(error))
                        yield beam.pvalue.TaggedOutput(DEAD, letter)
                        continue
                    good.append(Located(path, first + index, value) if self._with_position else value)
                    if len(good) == _AT_A_TIME:
                        yield good
                        good = []
                if good:
                    yield good
        except DamagedFile as error:
            letter = damaged_file("ReadJsonLines", path, blocks.first_line(), error)
            yield beam.pvalue.TaggedOutput(DEAD, letter)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Returns the object on a line; None for a blank line.

    Raises:
        ValueError: there is none, and why.
    """
    try:
        text = line.decode().rstrip("\r")
        try:
            value, end = _SCAN(text)
        except json.JSONDecodeError:
            end = -1
        if end != len(text):
            value = _DECODE(text)  # blanks around it, or an error with its place
        if b"\\u" in line and value.__class__ is dict and b"\\ud" in line.lower():
            _ENCODE(value).encode()
    except json.JSONDecodeError as error:
        if not line.strip():
            return None
        raise ValueError(f"not JSON: {error.msg} (column {error.colno})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise ValueError("a text has half of a surrogate pair, which no encoding can hold") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            limit = sys.get_int_max_str_digits()
            raise ValueError(f"an integer has more digits than Python reads ({limit:,})") from None
        raise
    if value.__class__ is not dict:
        raise ValueError(f"a JSON object is needed, this is {_kind(value)}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"the number {shorten(text, 40)} is too large for a float")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"not JSON: {name} is no JSON value")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_DECODE = _DECODER.decode
# It takes two thirds of the time: it does not look for blanks around the value.
_SCAN = _DECODER.raw_decode


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
    as ISO 8601) or scalars of NumPy (written as their Python values). What JSON has no form for fails the step, with
    the column and the record in the message: NaN, ``Decimal``, ``bytes``, names that are not ``str``.
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
        record = element
        try:
            record = as_record(element)
            if record.__class__ is not dict or not _TEXT.issuperset(map(type, record)) or _deep(record):
                _check_names(record)
            return _ENCODE(record)
        except (ValueError, TypeError, RecursionError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(_why_not(record, error)) from None


_TEXT = frozenset({str})
_FLAT = frozenset({str, int, float, bool, type(None)})


def _deep(record: dict[str, Any]) -> bool:
    return not _FLAT.issuperset(map(type, record.values()))


def _check_names(value: Any) -> None:
    """Raises TypeError if a mapping in the value has a name that is no text.

    JSON has names of text only, and Python would write 1 and "1", or None and "null", as one name.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise TypeError(f"a name is {type(name).__name__} {name!r}, and JSON has names of text only")
            _check_names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_names(inner)


def _why_not(record: Any, error: Exception) -> str:
    """Returns what is wrong with which column of a record that cannot be written."""
    where = ""
    if isinstance(record, dict):
        for name, value in record.items():
            try:
                _check_names({name: value})
                _ENCODE(value)
            except (ValueError, TypeError, RecursionError) as found:
                where, error = f"column {name!r}: ", found
                break
    message = str(error)
    if "not JSON compliant" in message:
        message = "NaN and infinite numbers have no JSON form; make them None or a str first"
    elif isinstance(error, RecursionError) or "Circular" in message:
        message = "it is nested too deeply, or holds itself"
    elif "integer string conversion" in message:
        message = (
            f"an integer has more digits than Python writes ({sys.get_int_max_str_digits():,}); make it a str first"
        )
    try:
        shown = shorten(repr(record), 500)
    except (ValueError, RecursionError):
        shown = f"a {type(record).__name__}"
    return f"{where}{message}. The record: {shown}"


def _plain(value: Any) -> Any:
    """Returns what stands for a value that the JSON encoder does not know."""
    # Dates and times, and those of pandas, but not its NaT, whose form would be the text "NaT".
    if isinstance(value, datetime.date | datetime.time) and value == value:
        return value.isoformat()
    # Scalars of NumPy, by their class's methods, so that NumPy is not imported for them. Its times give bare numbers.
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and value.dtype.kind in "biuf":
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form; make it a str or a number first")


_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).encode
