"""``python -m tests.benchmarks.csv_read``: `ReadCsv` and a cheap step against a loop over ``csv.DictReader``.

Both call the same function of each row, in one process, one after the other, by CPU time. The job's figure has all that
it costs: building, planning and running. ``--rows`` says how large the file is; ``--rounds`` how often each is timed.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from sage.runners.local import LocalRunner
from sage.transforms.io import ReadCsv
from tests.benchmarks.measure import work_dir

COLUMNS = ["order_id", "customer", "amount", "currency", "day", "status", "note", "qty"]


def table(rows: int, quoted: bool, packed: bool) -> Path:
    """A file of orders; made once, then kept. Of the quoted one each row has a field with a comma in it."""
    path = work_dir() / f"orders-{rows}{'-quoted' if quoted else ''}.csv{'.gz' if packed else ''}"
    if not path.exists():
        opened = gzip.open if packed else open
        with opened(path, "wt", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for number in range(rows):
                random = number * 2654435761 % 2**32
                customer = f"Doe, John {random % 9973}" if quoted else f"customer-{random % 9973}"
                amount, day = f"{random % 100_000 / 100:.2f}", f"2024-01-{number % 28 + 1:02d}"
                note = f"a note of some length {number % 97}"
                writer.writerow([number, customer, amount, "EUR", day, ("new", "paid", "sent")[number % 3], note, 7])
    return path


def step(row: dict[str, str]) -> int:
    """The cheap step that both call of each row."""
    return len(row["status"])


def by_dict_reader(path: Path) -> None:
    """The loop that a script has."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step(row)


def by_read_csv(path: Path, workers: int = 1) -> None:
    """The job that does the same."""
    options = PipelineOptions([f"--workers={workers}"])
    with beam.Pipeline(runner=LocalRunner(), options=options) as pipeline:
        good, _ = pipeline | ReadCsv(str(path))
        good | beam.Map(step)


def seconds(clock: Callable[[], float], run: Callable[[], None]) -> float:
    """How long a call takes by a clock."""
    started = clock()
    run()
    return clock() - started


def report(name: str, pairs: list[tuple[float, float]]) -> None:
    """Print the seconds of the peer over ours, of pairs of them: the median and the range."""
    ratios = sorted(peer / ours for peer, ours in pairs)
    peer, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}; {ours:.2f} s against {peer:.2f} s"
    print(f"{name:<56} {statistics.median(ratios):5.2f}x  ({spread})", flush=True)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    known = parser.parse_args()
    files = {
        "plain": table(known.rows, quoted=False, packed=False),
        ".gz": table(known.rows, quoted=False, packed=True),
        "a quoted field in each row": table(known.rows, quoted=True, packed=False),
    }
    for name, path in files.items():
        by_read_csv(path)
        loop, job = functools.partial(by_dict_reader, path), functools.partial(by_read_csv, path)
        clock = time.process_time
        pairs = [(seconds(clock, loop), seconds(clock, job)) for _ in range(known.rounds)]
        report(f"{name}, CPU against csv.DictReader", pairs)
    # The slope between two sizes: what it takes to start the workers does not count.
    sizes = [table(known.rows * times, quoted=False, packed=False) for times in (1, 4)]
    pairs = []
    for _ in range(known.rounds):
        walls = [
            [seconds(time.perf_counter, functools.partial(by_read_csv, path, n)) for path in sizes] for n in (1, 2)
        ]
        one, two = (large - small for small, large in walls)
        pairs.append((one, two))
    report("two workers against one, wall time, slope of two sizes", pairs)


if __name__ == "__main__":
    main()
