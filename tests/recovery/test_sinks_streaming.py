"""A streaming job into every kind of sink is killed again and again, as a process, and leaves what one run does."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fastavro
import psycopg
import pyarrow.parquet as pq
import pytest

from tests.architecture.tree import ROOT
from tests.patience import patience
from tests.recovery.streams import SPLITS

UPTO = 20_000
RATE = 1_000


def _start(out: Path, kept: Path, dsn: str, rate: int, workers: int) -> subprocess.Popen[str]:
    options = [f"--checkpoint_dir={kept}", "--checkpoint_interval=50ms", "--job_name=sinks", f"--workers={workers}"]
    command = [sys.executable, "-m", "tests.recovery.sinks_job", str(UPTO), str(rate), str(out), dsn, *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _wait_for_output(job: subprocess.Popen[str], out: Path) -> None:
    """Until the job has committed something more than there is now."""
    before = set((out / "json").glob("part-*"))
    deadline = time.monotonic() + patience(60)
    while set((out / "json").glob("part-*")) == before:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline, "no output came"
        time.sleep(0.01)


def _seen(out: Path, dsn: str) -> dict[str, Counter[tuple[str, int]]]:
    """What can be seen of each sink, and how often each number is there."""
    found: dict[str, Counter[tuple[str, int]]] = {}
    for kind in ("json", "parquet", "avro", "text"):
        found[kind] = Counter()
        for path in (out / kind).rglob("part-*"):
            assert path.stat().st_size
            found[kind].update(_numbers(kind, path))
    for kind in ("added", "upserted"):
        with contextlib.closing(sqlite3.connect(out / f"{kind}.sqlite")) as database:
            found[kind] = Counter(database.execute("SELECT split, n FROM numbers").fetchall())
    with psycopg.connect(dsn) as connection:
        found["postgres"] = Counter(connection.execute("SELECT split, n FROM numbers").fetchall())
    return found


def _numbers(kind: str, path: Path) -> list[tuple[str, int]]:
    if kind == "json":
        return [(row["split"], row["n"]) for row in map(json.loads, gzip.decompress(path.read_bytes()).splitlines())]
    if kind == "parquet":
        return [(row["split"], row["n"]) for row in pq.read_table(path).to_pylist()]
    if kind == "avro":
        with path.open("rb") as file:
            rows = [(row["split"], row["n"]) for row in fastavro.reader(file)]
        assert {f"split={split}" for split, _ in rows} == {path.parent.name}
        return rows
    pairs = [line.split() for line in path.read_text().splitlines()]
    assert {f"second={int(n) // 1000:02}" for _, n in pairs} == {path.parent.name}
    return [(split, int(n)) for split, n in pairs]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [(1, 1, 1, 1, 1), (2, 1, 3, 2, 1)], ids=str)
def test_a_job_that_is_killed_and_resumed_writes_what_one_run_does(
    workers: tuple[int, ...], tmp_path: Path, postgres: str
) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    dice = random.Random(len(set(workers)))
    for count in workers[:-1]:
        job = _start(out, kept, postgres, RATE, count)
        try:
            _wait_for_output(job, out)
            time.sleep(dice.uniform(0, 0.3))
        finally:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()

    job = _start(out, kept, postgres, 0, workers[-1])
    _, said = job.communicate(timeout=patience(60))
    assert job.returncode == 0, said
    expected = Counter((split, n) for split in SPLITS for n in range(UPTO))
    for kind, numbers in _seen(out, postgres).items():
        assert numbers == expected, f"{kind}: {len(expected - numbers)} lost, {len(numbers - expected)} too many"
    assert not list(out.rglob("*.tmp"))
