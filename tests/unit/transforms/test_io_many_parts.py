"""More destinations than files may be open at a time: one file for each, whatever the format."""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from sage.runners.local import LocalRunner
from sage.transforms.io import ReadJsonLines, WriteAvro, WriteJsonLines, WriteParquet, WriteText, parts
from sage.transforms.io.formats import FileWriter
from sage.transforms.io.storage import Folder
from tests.models.two_phase import Checkpoint, Driver, sink_of

AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": "n", "type": "long"}, {"name": "pad", "type": "string"}],
}
KINDS = ["jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.zst", "jsonl.lz4", "avro", "parquet"]


def _sink(kind: str, path: Any, destinations: int, **options: Any) -> beam.PTransform:
    options["destination"] = lambda row: f"d={row['n'] % destinations}"
    if kind == "avro":
        return WriteAvro(str(path), AVRO, **options)
    if kind == "parquet":
        return WriteParquet(str(path), **options)
    return WriteJsonLines(str(path), suffix=f".{kind}", **options)


def _started(sink: beam.PTransform, folder: Path) -> Any:
    return Driver(sink_of(sink), folder / "checkpoint").start(Checkpoint())[0]


def _rows(path: Path) -> list[int]:
    if path.suffix == ".parquet":
        return pq.ParquetFile(path).read().column("n").to_pylist()
    if path.suffix == ".avro":
        with path.open("rb") as file:
            return [row["n"] for row in fastavro.reader(file)]
    with pa.input_stream(str(path), compression="detect") as file:
        return [json.loads(line)["n"] for line in file.read().splitlines()]


def _by_destination(folder: Path, kind: str) -> dict[int, list[list[int]]]:
    """The rows of each file, by destination."""
    found: dict[int, list[list[int]]] = collections.defaultdict(list)
    for path in sorted(folder.rglob(f"part-*.{kind}")):
        found[int(path.parent.name.partition("=")[2])].append(_rows(path))
    return found


def _wanted(rows: int, destinations: int) -> dict[int, list[list[int]]]:
    return {n: [list(range(n, rows, destinations))] for n in range(min(rows, destinations))}


def _open_files(folder: Path) -> int:
    """How many files of a folder this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += str(folder) in os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return count


@pytest.mark.parametrize("kind", [*KINDS[:2], *KINDS[3:]])
def test_each_destination_has_one_file(tmp_path: Path, kind: str) -> None:
    sink = _started(_sink(kind, tmp_path / "out", 350), tmp_path)
    for n in range(5_000):
        sink.process({"n": n, "pad": "x" * 10})
    assert _open_files(tmp_path) <= 100
    sink.commit(sink.prepare(1))
    assert _by_destination(tmp_path / "out", kind) == _wanted(5_000, 350)
    assert not list(tmp_path.rglob("*.tmp"))
    sink.teardown()
    assert _open_files(tmp_path) == 0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound on memory that a few rows exceed, in bytes; and few open files."""
    monkeypatch.setattr(parts, "_MAX_BUFFERED", 400_000)
    monkeypatch.setattr(parts, "_MAX_OPEN", 3)
    return 400_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_parts_keep_in_memory_is_bounded(tmp_path: Path, kind: str, small: int) -> None:
    sink = _started(_sink(kind, tmp_path / "out", 20), tmp_path)
    most = 0
    for n in range(3_000):
        sink.process({"n": n, "pad": "x" * 1_000})
        kept = sum(part.writer.buffered for part in sink._open.values())
        assert kept == sink._buffered
        most = max(most, kept)
    # A compressor by itself may take more.
    assert most <= small + (10_000_000 if "." in kind else 0)
    sink.commit(sink.prepare(1))
    assert sink._buffered == 0
    assert _by_destination(tmp_path / "out", kind) == _wanted(3_000, 20)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "lz4" not in kind])
def test_a_file_that_was_written_in_turns_is_read_by_others(tmp_path: Path, kind: str, small: int) -> None:
    sink = _started(_sink(kind, tmp_path / "out", 5), tmp_path)
    for n in range(200):
        sink.process({"n": n, "pad": "é" * 5_000})
    sink.commit(sink.prepare(1))
    sink.teardown()
    if not kind.startswith("jsonl"):
        assert _by_destination(tmp_path / "out", kind) == _wanted(200, 5)
        return
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        good, dead = pipeline | ReadJsonLines(str(tmp_path / "out" / "d=*" / "*"))
        good | beam.Map(lambda row: str(row["n"])) | WriteText(str(tmp_path / "read.txt"), sort_by=int)
        dead | WriteJsonLines(str(tmp_path / "dead.jsonl"))
    assert [int(line) for line in (tmp_path / "read.txt").read_text().splitlines()] == list(range(200))
    assert (tmp_path / "dead.jsonl").read_text() == ""


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "avro", "parquet"])
def test_objects_beyond_the_open_ones_wait_here(kind: str, small: int, tmp_path: Path) -> None:
    out = Folder(f"memory://many-parts-{kind}/out")
    sink = _started(_sink(kind, out.path, 20), tmp_path)
    for n in range(600):
        sink.process({"n": n, "pad": "x" * 3_000})
    sink.commit(sink.prepare(1))
    sink.teardown()
    names = [name for name in out.files() if "part-" in name]
    assert len(names) == 20
    for name in names:
        copy = tmp_path / "out" / name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(out.read(name) or b"")
    assert _by_destination(tmp_path / "out", kind) == _wanted(600, 20)


@pytest.mark.parametrize("kind", ["jsonl.gz", "avro", "parquet"])
def test_restored_parts_are_whole(tmp_path: Path, kind: str, small: int) -> None:
    def driver() -> Driver:
        return Driver(sink_of(_sink(kind, tmp_path / "out", 40)), tmp_path / "checkpoint", every=300, subtasks=2)

    rows = [{"n": n, "pad": "x" * 1_000} for n in range(2_000)]
    driver().run(rows, until=1_000)
    (one, two) = driver().start(driver().load())
    for row in rows[1_000:1_100]:  # written, and not in a checkpoint: gone with the crash
        one.process(row)
        two.process(row)
    driver().run(rows)
    found = _by_destination(tmp_path / "out", kind)
    assert {n: sorted(row for rows in files for row in rows) for n, files in found.items()} == {
        n: list(range(n, 2_000, 40)) for n in range(40)
    }
    assert not [path for path in tmp_path.rglob("*.tmp") if "note" not in path.name]


def test_a_part_is_finished_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MAX_PARTS", 10)
    sink = _started(_sink("jsonl", tmp_path / "out", 15), tmp_path)
    for n in range(30):
        sink.process({"n": n})
        assert len(sink._open) <= 10
    sink.commit(sink.prepare(1))
    found = _by_destination(tmp_path / "out", "jsonl")
    assert sorted(row for files in found.values() for rows in files for row in rows) == list(range(30))
    assert max(len(files) for files in found.values()) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_with_many_destinations(tmp_path: Path, workers: int) -> None:
    pipeline = beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([f"--workers={workers}"]))
    numbers = pipeline | beam.Create(range(5_000)) | beam.Reshuffle() | beam.Map(str)
    _ = numbers | WriteText(str(tmp_path / "out"), destination=lambda line: f"d={int(line) % 350}")
    pipeline.run().wait_until_finish()
    files = list((tmp_path / "out").rglob("part-*"))
    assert len(files) <= 350 * workers
    assert sorted(int(line) for path in files for line in path.read_text().splitlines()) == list(range(5_000))


def test_what_was_written_out_early_is_counted(tmp_path: Path, small: int) -> None:
    pipeline = beam.Pipeline(runner=LocalRunner())
    rows = pipeline | beam.Create([0]) | beam.FlatMap(lambda _: ({"n": n, "pad": "x" * 1_000} for n in range(2_000)))
    _ = rows | _sink("jsonl", tmp_path / "out", 20)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_name("buffers_released"))["counters"]
    assert sum(counter.committed for counter in found) > 0
    assert _by_destination(tmp_path / "out", "jsonl") == _wanted(2_000, 20)


def test_a_writer_keeps_nothing_unless_it_says_so() -> None:
    assert FileWriter.buffered == 0


@pytest.mark.parametrize(
    ("pattern", "time", "wanted"),
    [
        ("day=%Y-%m-%d", -62_135_596_800, "day=0001-01-01"),
        ("%F", -62_135_596_800, "0001-01-01"),
        ("%G-W%V", -62_135_596_800, "0001-W01"),
        ("century=%C", -62_135_596_800, "century=00"),
        ("%%Y=%Y", -62_135_596_800, "%Y=0001"),
        ("%Y/%j", -30_610_224_000, "1000/001"),
        ("%Y", -30_610_224_001, "0999"),
        ("%Y-%m-%dT%H", 0, "1970-01-01T00"),
        ("at=%s", 86_400, "at=86400"),
        ("%Y", 253_402_300_799, "9999"),
    ],
)
def test_years_have_four_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, time: int, wanted: str
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    sink = _started(WriteText(str(tmp_path / "out"), destination=pattern), tmp_path)
    sink.process("a", Timestamp(time))
    sink.commit(sink.prepare(1))
    (path,) = (tmp_path / "out").rglob("part-*")
    assert path.parent.relative_to(tmp_path / "out").as_posix() == wanted


def test_a_job_with_elements_of_the_year_1(tmp_path: Path) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        lines = pipeline | beam.Create(["a"]) | beam.Map(lambda line: TimestampedValue(line, -62_135_596_800))
        lines | WriteText(str(tmp_path / "out"), destination="day=%Y-%m-%d")
    assert [path.parent.name for path in (tmp_path / "out").rglob("part-*")] == ["day=0001-01-01"]
