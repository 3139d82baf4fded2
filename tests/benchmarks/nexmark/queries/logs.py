"""Q10: all events of a window into sharded log files, and an index of them."""

from __future__ import annotations

import collections
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms import trigger, window

from tests.benchmarks.nexmark.model import Config, Event

LATE_SECONDS = 10
LATENESS_SECONDS = 24 * 60 * 60


def to_line(event: Event) -> str:
    """An event as its log line."""
    return json.dumps([type(event).__name__, *event])


class Shard(beam.DoFn):
    """(shard, line) of an event, the shard by a hash that is the same in every process."""

    def __init__(self, shards: int) -> None:
        self.shards = shards

    def process(self, element: Event) -> Iterator[tuple[int, str]]:
        line = to_line(element)
        yield zlib.crc32(line.encode()) % self.shards, line


class WriteLog(beam.DoFn):
    """Writes a pane of a shard to a file named by window, shard and pane; gives (None, (file, lines))."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(
        self,
        element: tuple[int, Iterable[str]],
        at: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[tuple[None, tuple[str, int]]]:
        shard, lines = element
        name = f"LOG-{at.end.micros // 1_000}-shard-{shard:05d}-{pane.index:03d}"
        count = 0
        with FileSystems.create(FileSystems.join(self.folder, name), "text/plain") as out:
            for line in lines:
                out.write(f"{line}\n".encode())
                count += 1
        yield None, (name, count)


class WriteIndex(beam.DoFn):
    """Writes the index of a window's files; gives (window end, lines in all)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(
        self,
        element: tuple[None, Iterable[tuple[str, int]]],
        at: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[tuple[int, int]]:
        files = sorted(element[1])
        end = at.end.micros // 1_000
        with FileSystems.create(FileSystems.join(self.folder, f"INDEX-{end}-{pane.index:03d}"), "text/plain") as out:
            for name, count in files:
                out.write(f"{name} {count}\n".encode())
        yield end, sum(count for _, count in files)


def query10(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Log to sharded files: (window end, events logged)."""
    full = trigger.AfterCount(config.max_log_events)
    panes = trigger.AfterEach(
        trigger.OrFinally(trigger.Repeatedly(full), trigger.AfterWatermark()),
        trigger.Repeatedly(trigger.AfterAny(full, trigger.AfterProcessingTime(LATE_SECONDS))),
    )
    seconds = config.window_ms / 1_000
    return (
        events
        | "shard" >> beam.ParDo(Shard(config.log_shards))
        | "panes of a window"
        >> beam.WindowInto(
            window.FixedWindows(seconds),
            trigger=panes,
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
            allowed_lateness=LATENESS_SECONDS,
        )
        | "group by shard" >> beam.GroupByKey()
        | "write logs" >> beam.ParDo(WriteLog(config.log_dir))
        | "windows"
        >> beam.WindowInto(
            window.FixedWindows(seconds),
            trigger=trigger.DefaultTrigger(),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
            allowed_lateness=LATENESS_SECONDS,
        )
        | "group files" >> beam.GroupByKey()
        | "write index" >> beam.ParDo(WriteIndex(config.log_dir))
    )


def read_back(folder: str) -> collections.Counter[str]:
    """Every line of every log file that an index names, with how often it occurs."""
    lines: collections.Counter[str] = collections.Counter()
    for index in Path(folder).glob("INDEX-*"):
        for entry in index.read_text().splitlines():
            name, count = entry.rsplit(" ", 1)
            found = Path(folder, name).read_text().splitlines()
            if len(found) != int(count):
                raise ValueError(f"{name} has {len(found)} lines, its index says {count}")
            lines.update(found)
    return lines
