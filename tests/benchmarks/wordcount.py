"""Word count of a text file: read, split, count, write."""

from __future__ import annotations

import collections
import functools
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import apache_beam as beam

from tests.benchmarks import beams
from tests.benchmarks.measure import OURS, Failed, Row, Settings, compare, installed, rounds
from tests.benchmarks.text import MEGABYTE, text_file

NAME = "wordcount"
WARM_UP = 10_000


def prepare(sizes: Iterable[int]) -> None:
    """Make the texts and their right answers before any clock runs."""
    for size in {WARM_UP, *sizes}:
        expected(size)


def words(line: str) -> list[str]:
    """The user's FlatMap."""
    return line.split()


def report(count: tuple[str, int]) -> str:
    """The user's Map at the end: a line of output."""
    return f"{count[0]} {count[1]}"


def expected(size: int) -> Path:
    """The right output, its lines sorted; made once, then kept beside the text."""
    text = text_file(size)
    answer = text.with_suffix(".counts")
    if not answer.exists():
        counts = collections.Counter(re.findall(r"\S+", text.read_text(encoding="utf-8")))
        answer.write_text("\n".join(sorted(map(report, counts.items()))), encoding="utf-8")
    return answer


def check(folder: str, size: int) -> None:
    """Raise Failed unless the files in ``folder`` hold the right lines, in any order."""
    lines: list[str] = []
    for path in Path(folder).iterdir():
        lines += path.read_text(encoding="utf-8").splitlines()
    if sorted(lines) != expected(size).read_text(encoding="utf-8").split("\n"):
        raise Failed(f"wrong word counts of {size} bytes: {len(lines)} lines")


def timed(run: Callable[[Path, Path], None], size: int) -> dict[str, float]:
    """Let ``run`` count the words of a file into files of a folder; the check of its answer is off the clock."""
    text = text_file(size)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run(text, Path(folder))
        seconds = time.perf_counter() - started
        check(folder, size)
    return {"seconds": seconds}


def on_beam(name: str, text: Path, folder: Path) -> None:
    """Read, split, count, write on a Beam runner."""
    pipeline = beam.Pipeline(runner=beams.runner(name), options=beams.options())
    (
        pipeline
        | "read" >> beam.io.ReadFromText(str(text))
        | "words" >> beam.FlatMap(words)
        | "count" >> beam.combiners.Count.PerElement()
        | "report" >> beam.Map(report)
        | "write" >> beam.io.WriteToText(f"{folder}/counts")
    )
    pipeline.run().wait_until_finish()


def by_hand(text: Path, folder: Path) -> None:
    """The same in plain Python: a Counter over the same functions."""
    counts: collections.Counter[str] = collections.Counter()
    with text.open(encoding="utf-8") as lines:
        for line in lines:
            for word in words(line):
                counts[word] += 1
    with Path(folder, "counts").open("w", encoding="utf-8") as out:
        out.writelines(f"{report(count)}\n" for count in counts.items())


def on_bytewax(text: Path, folder: Path) -> None:
    """Bytewax with its own file source and sink, splitting whole batches."""
    import bytewax.operators as op
    from bytewax.connectors.files import FileSink, FileSource
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    def split(batch: list[str]) -> list[tuple[str, int]]:
        return [(word, 1) for line in batch for word in words(line)]

    flow = Dataflow("wordcount")
    lines = op.input("read", flow, FileSource(text, batch_size=1_000))
    pairs = op.flat_map_batch("words", lines, split)
    counts = op.fold_final("count", pairs, int, int.__add__)
    reports = op.map("report", counts, lambda count: (count[0], report(count)))
    op.output("write", reports, FileSink(Path(folder, "counts")))
    run_main(flow)


def run_sage(size: int) -> dict[str, float]:
    return timed(functools.partial(on_beam, "sage"), size)


def run_fnapi(size: int) -> dict[str, float]:
    return timed(functools.partial(on_beam, "fnapi"), size)


def run_plain(size: int) -> dict[str, float]:
    return timed(by_hand, size)


def run_bytewax(size: int) -> dict[str, float]:
    return timed(on_bytewax, size)


def bench(settings: Settings) -> list[Row]:
    """Ours against the peers, in bytes of text a second."""
    large = settings.pick(20, 100) * MEGABYTE
    small = large // 5
    ways = {OURS: (small, large), "fnapi": (small, large), "plain": (small, large)}
    if installed("bytewax"):
        ways["bytewax"] = (large // 10, large // 4)
    turns = rounds(settings, NAME, ways, settings.pick(1, 3))
    rows = [
        compare(NAME, "against FnApiRunner", turns, "fnapi", 4.0),
        compare(NAME, "against plain Python", turns, "plain", 0.5),
    ]
    if "bytewax" in ways:
        rows.append(compare(NAME, "against Bytewax", turns, "bytewax", None))
    return rows
