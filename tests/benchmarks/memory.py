"""GroupByKey over more values than memory may hold: peak memory of the whole process tree."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from tests.benchmarks import beams
from tests.benchmarks.measure import ROOT, Failed, Row, Settings, child_command, child_environment, parse_turn

NAME = "memory"
VALUE = 1_000
KEYS = 10_000
PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 1024 * 1024


class Values(beam.DoFn):
    """n values of a kilobyte, no two alike, over ten thousand keys in no order."""

    def process(self, element: int) -> Iterator[tuple[int, bytes]]:
        filler = random.Random(3).randbytes(VALUE - 8)
        for number in range(element):
            yield number * 7_919 % KEYS, number.to_bytes(8, "big") + filler


def measure_group(group: tuple[int, Iterable[bytes]]) -> tuple[int, int, int]:
    """Groups, values and bytes of a group: 1 and what is in it."""
    _, values = group
    count = size = 0
    for value in values:
        count += 1
        size += len(value)
    return 1, count, size


def add_up(parts: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    groups = count = size = 0
    for part in parts:
        groups, count, size = groups + part[0], count + part[1], size + part[2]
    return groups, count, size


def run_sage(size: int, limit: str, workers: int = 1) -> None:
    """Group ``size`` bytes of values under a memory limit, and see that none is lost."""
    count = size // VALUE
    options = beams.options(f"--memory_limit={limit}", f"--workers={workers}")
    with beam.Pipeline(runner=beams.runner("sage"), options=options) as pipeline:
        totals = (
            pipeline
            | beam.Create([count])
            | "values" >> beam.ParDo(Values())
            | beam.GroupByKey()
            | "measure" >> beam.Map(measure_group)
            | "add up" >> beam.CombineGlobally(add_up)
        )
        assert_that(totals, equal_to([(min(count, KEYS), count, count * VALUE)]))


def tree_rss(root: int) -> int:
    """Resident bytes of a process and all below it, now (shared pages counted in each, so never too little)."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # The name in parentheses may hold spaces, so fields are counted behind it.
                fields = Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
            pages[int(entry)] = int(fields[21])
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        total += pages.get(process, 0)
        todo += children.get(process, ())
    return total * PAGE


def peak_of(command: list[str], timeout: float) -> tuple[int, float, str, str]:
    """Run a command and watch its tree: peak bytes, seconds, stdout, stderr.

    Raises:
        Failed: it took longer than ``timeout`` seconds.
    """
    started, peak = time.monotonic(), 0
    with subprocess.Popen(
        command, cwd=ROOT, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            peak = max(peak, tree_rss(process.pid))
            if time.monotonic() - started > timeout:
                process.kill()
                raise Failed(f"not finished within {timeout:.0f} s, peak until then {peak / MEGABYTE:.0f} MB")
            time.sleep(0.02)
        stdout, stderr = process.communicate()
    return peak, time.monotonic() - started, stdout, stderr


def bench(settings: Settings) -> list[Row]:
    """Peak memory under a limit; the quick form is a quarter of the size under a quarter of the limit."""
    if not Path("/proc/self/stat").exists():
        return [Row(NAME, "GroupByKey under --memory_limit", None, note="needs /proc, which this system has not")]
    size, limit, asked = settings.pick((500_000_000, 128, 640), (2_000_000_000, 512, 1_024))
    # The bar leaves half a gigabyte beside the limit: interpreter, Beam, and what is on its way.
    rows = []
    for workers in settings.pick((1,), (1, 2)):
        what = f"peak RSS of GroupByKey over {size / 1e9:g} GB, --memory_limit={limit}MB, --workers={workers}"
        command = child_command(NAME, "sage", [size], limit=f"{limit}MB", workers=workers)
        try:
            peak, seconds, stdout, stderr = peak_of(command, settings.pick(180, 600))
            parse_turn(stdout, stderr)
            row = Row(NAME, what, peak / MEGABYTE, asked, "MB", False, f"{seconds:.0f} s, result checked")
        except Failed as error:
            row = Row(NAME, what, None, asked, "MB", False, str(error))
        settings.say(f"{what}: {row.verdict} {row.value or row.note}")
        rows.append(row)
    return rows
