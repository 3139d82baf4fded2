"""The pipeline of the report: plain batch Beam, so that it runs the same on every runner."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import argparse
import datetime
import functools
import glob
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue

from sage.errors import ConfigError
from sage.jobs.arguments import parse_arguments
from sage.jobs.stdlib_report.rows import SCHEMAS, BusyWindow, ModuleUse, Totals, WordCount
from sage.jobs.stdlib_report.source import Import, SourceFile, count_words, decode, find_imports, module_name, parse
from sage.jobs.stdlib_report.summary import render
from sage.options import parse_duration_ms
from sage.transforms.dead_letter import DeadLetter, ToDeadLetters
from sage.transforms.io.files import ReplaceFile
from sage.transforms.io.json_lines import WriteJsonLines
from sage.transforms.io.parquet import WriteParquet

__all__ = ["Parameters", "build", "main"]

# Installed beside the standard library, and no part of it.
_NOT_THE_LIBRARY = ("site-packages", "dist-packages")


class Parameters(NamedTuple):
    """What the job is told.

    Attributes:
        source: the folder to read; all ``.py`` files below it are.
        output: the folder to write into; files of an earlier run are replaced.
        top: how many entries each list of the summary has.
        window_s: the length of a window (s).
    """

    source: str
    output: str
    top: int
    window_s: float

    @classmethod
    def parse(cls, argv: Sequence[str] | None) -> tuple["Parameters", PipelineOptions]:
        """The parameters in ``argv`` (default: the program's), and the pipeline options in the rest.

        Raises:
            ConfigError: the source is no folder that can be read, a number is out of range, or an option is unknown.
        """
        parser = argparse.ArgumentParser(
            prog="sage run sage.jobs.stdlib_report --",
            allow_abbrev=False,
            description="Count the words, imports and file times of a tree of Python source.",
        )
        parser.add_argument(
            "--source",
            metavar="DIR",
            default=sysconfig.get_paths()["stdlib"],
            help="folder to read (default: the standard library of this Python, %(default)s)",
        )
        parser.add_argument(
            "--output",
            metavar="DIR",
            default=os.path.join("out", "stdlib_report"),
            help="folder to write into (default: %(default)s)",
        )
        parser.add_argument("--top", type=int, default=10, metavar="N", help="length of each list (default: 10)")
        parser.add_argument(
            "--window", default="1h", metavar="TIME", help="length of a window, as 30m, 1h or 24h (default: 1h)"
        )
        known, options = parse_arguments(parser, argv)
        source = os.path.abspath(os.path.expanduser(known.source))
        if not os.path.isdir(source):
            raise ConfigError(f"--source {known.source!r} is not a folder")
        if not os.access(source, os.R_OK | os.X_OK):
            raise ConfigError(f"--source {known.source!r} may not be read by this user; check its permissions")
        window_s = parse_duration_ms(known.window) / 1000
        if known.top < 1 or window_s <= 0:
            raise ConfigError(f"--top {known.top} and --window {known.window!r} must be above zero")
        return cls(source, known.output, known.top, window_s), options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job and print its summary.

    Args:
        argv: the job's parameters and any Beam options (default: the program's arguments).

    Raises:
        ConfigError: a parameter is wrong; nothing has run.
    """
    parameters, options = Parameters.parse(argv)
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline, parameters)
    with FileSystems.open(FileSystems.join(parameters.output, "summary.txt")) as summary:
        print(summary.read().decode(), end="")
    print(f"\nWritten to {parameters.output}")


def build(pipeline: beam.Pipeline, parameters: Parameters) -> None:
    """Add the job's steps to a pipeline."""
    output = parameters.output
    listed = (
        pipeline
        | "ListFiles" >> fileio.MatchFiles(glob.escape(parameters.source) + "/**.py")
        | "OnlyLibrary" >> beam.Filter(_is_library, parameters.source)
    )
    files, unreadable = (
        listed
        | "SpreadFiles" >> beam.Reshuffle()
        | "OpenFiles" >> fileio.ReadMatches()
        | "Decode" >> beam.Map(_decoded, parameters.source).with_exception_handling()
    )
    imports, unparsable = files | "ParseImports" >> beam.FlatMap(_imports).with_exception_handling()
    # The file is named; its text would fill the dead letters.
    place_of_file = functools.partial(_place_of_file, root=parameters.source)
    dead = (
        unreadable | "Unreadable" >> ToDeadLetters("Decode", _nothing, place_of_file),
        unparsable | "Unparsable" >> ToDeadLetters("ParseImports", _nothing, _place_of_source),
    ) | "DeadLetters" >> beam.Flatten()

    words = (
        files
        | "Words" >> beam.FlatMap(_words).with_output_types(tuple[tuple[str, str], int])
        | "CountWords" >> beam.CombinePerKey(sum)
        | "WordRows" >> beam.MapTuple(_word_row)
    )
    modules = {
        "defined": files | "Defined" >> beam.Map(_defined).with_output_types(tuple[str, str]),
        "imported": imports | "ByModule" >> beam.Map(_by_module).with_output_types(tuple[str, Import]),
    } | "JoinModules" >> JoinModules()
    windows = listed | "FileTimes" >> CountWindows(parameters.window_s)

    for name, rows, kind, order in (
        ("words", words, WordCount, ["kind", "word"]),
        ("imports", modules, ModuleUse, ["module"]),
        ("windows", windows, BusyWindow, ["start"]),
    ):
        path = FileSystems.join(output, f"{name}.parquet")
        rows | f"Write {name}" >> WriteParquet(path, SCHEMAS[kind], sort_by=order)
    dead | "Write dead letters" >> WriteJsonLines(
        FileSystems.join(output, "dead_letters.jsonl"), sort_by=DeadLetter.place
    )

    # Each part of the summary is a side input of one element: the step waits until all of them are there.
    parts = {
        "totals": beam.pvalue.AsSingleton(files | "Totals" >> SumTotals()),
        "modules": beam.pvalue.AsSingleton(modules | "TopModules" >> _top(parameters.top, _most_imported)),
        "windows": beam.pvalue.AsSingleton(windows | "TopWindows" >> _top(parameters.top, _busiest)),
        "dead": beam.pvalue.AsList(dead),
        "words": beam.pvalue.AsDict(
            words | "ByKind" >> beam.Map(_by_kind) | "TopWords" >> _top_per_key(parameters.top, _most_frequent)
        ),
    }
    (
        pipeline
        | "Source" >> beam.Create([parameters.source])
        | "Render" >> beam.Map(_rendered, top=parameters.top, **parts)
        | "Write summary" >> ReplaceFile(FileSystems.join(output, "summary.txt"))
    )


class JoinModules(beam.PTransform):
    """Join the modules that files import with the files that define them (a full outer join).

    Input: ``{"defined": (module, path), "imported": (module, Import)}``. Output: a `ModuleUse` for each module that
    is defined or imported.
    """

    def expand(self, tables: Any) -> beam.PCollection[ModuleUse]:
        return tables | "Join" >> beam.CoGroupByKey() | "Use" >> beam.FlatMapTuple(_module_use)


class CountWindows(beam.PTransform):
    """Count files and bytes by the window of time in which each file was last changed.

    Input: ``FileMetadata``. Output: a `BusyWindow` for each window that has files, in the global window.

    Args:
        window_s: the length of a window (s).
    """

    def __init__(self, window_s: float) -> None:
        super().__init__()
        self._window_s = window_s

    def expand(self, files: beam.PCollection[FileMetadata]) -> beam.PCollection[BusyWindow]:
        count_and_sum = beam.combiners.SingleInputTupleCombineFn(beam.combiners.CountCombineFn(), sum)
        return (
            files
            | "EventTime" >> beam.Map(_size_at_time)
            | "Window" >> beam.WindowInto(FixedWindows(self._window_s))
            | "Count" >> beam.CombineGlobally(count_and_sum).without_defaults()
            | "Row" >> beam.Map(_window_row)
            | "Globally" >> beam.WindowInto(GlobalWindows())
        )


class SumTotals(beam.PTransform):
    """Sum the sizes of all files. Input: `SourceFile`. Output: one `Totals`, of zeros if there is no file."""

    def expand(self, files: beam.PCollection[SourceFile]) -> beam.PCollection[Totals]:
        return (
            files
            | "Sizes" >> beam.Map(_sizes)
            | "Sum" >> beam.CombineGlobally(beam.combiners.TupleCombineFn(sum, sum, sum))
            | "Row" >> beam.Map(_totals)
        )


# The functions of the steps are named, not lambdas: an error then says which one, and any process can import them.


def _is_library(file: FileMetadata, root: str) -> bool:
    return _below(file.path, root).split("/", 1)[0] not in _NOT_THE_LIBRARY


def _below(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _decoded(file: fileio.ReadableFile, root: str) -> SourceFile:
    path = _below(file.metadata.path, root)
    return SourceFile(path, module_name(path), decode(file.read()))


def _imports(file: SourceFile) -> list[Import]:
    return find_imports(file, parse(file))


def _words(file: SourceFile) -> Iterator[tuple[tuple[str, str], int]]:
    # Counted by file first: a twentieth of the elements, and the same sums.
    yield from count_words(file.text).items()


def _word_row(key: tuple[str, str], count: int) -> WordCount:
    return WordCount(*key, count)


def _defined(file: SourceFile) -> tuple[str, str]:
    return file.module, file.path


def _by_module(found: Import) -> tuple[str, Import]:
    return found.module, found


def _module_use(module: str, sides: dict[str, Any]) -> Iterator[ModuleUse]:
    # Two files can define one module (a folder beside a file of the same name); the first by path is shown.
    defined_in = min(sides["defined"], default="")
    importers = {found.importer for found in sides["imported"] if found.certain or defined_in}
    if defined_in:
        origin = "source"
    elif module.partition(".")[0] in sys.stdlib_module_names:
        origin = "compiled"
    else:
        origin = "elsewhere"
    # Without a definition, ``b`` of ``from a import b`` is some function or class, not a module.
    if defined_in or importers:
        yield ModuleUse(module, origin, defined_in, len(importers))


def _size_at_time(file: FileMetadata) -> TimestampedValue:
    return TimestampedValue(file.size_in_bytes, file.last_updated_in_seconds)


def _window_row(counts: tuple[int, int], window: Any = beam.DoFn.WindowParam) -> BusyWindow:
    start, end = (
        datetime.datetime.fromtimestamp(float(edge), datetime.timezone.utc) for edge in (window.start, window.end)
    )
    return BusyWindow(start, end, *counts)


def _sizes(file: SourceFile) -> tuple[int, int, int]:
    return 1, len(file.text.splitlines()), len(file.text.encode(errors="replace"))


def _totals(sums: tuple[int, int, int]) -> Totals:
    return Totals(*sums)


def _by_kind(count: WordCount) -> tuple[str, WordCount]:
    return count.kind, count


def _top(n: int, order: Any) -> beam.PTransform:
    """The first ``n`` by ``order``. (Beam's Top gives the greatest; reversed, the least.)"""
    return beam.combiners.Top.Of(n, key=order, reverse=True)


def _top_per_key(n: int, order: Any) -> beam.PTransform:
    return beam.combiners.Top.PerKey(n, key=order, reverse=True)


# What stands first in a list. Names break ties, so that equal numbers come in one order everywhere.


def _most_frequent(count: WordCount) -> tuple[int, str]:
    return -count.occurrences, count.word


def _most_imported(use: ModuleUse) -> tuple[int, str]:
    return -use.importers, use.module


def _busiest(window: BusyWindow) -> tuple[int, float]:
    return -window.files, window.start.timestamp()


def _place_of_file(file: fileio.ReadableFile, root: str) -> tuple[str, None]:
    return _below(file.metadata.path, root), None


def _place_of_source(file: SourceFile) -> tuple[str, None]:
    return file.path, None


def _nothing(_: object) -> str:
    return ""


def _rendered(source: str, **parts: Any) -> list[str]:
    return [render(source, **parts)]
