"""How long a killed job takes to its first output: ``python -m tests.benchmarks.recovery``.

A job builds up keyed state (``--keys`` keys of ``--bytes`` bytes each), takes a checkpoint, and then gives one output
after another for these keys. Its driver, or one of its workers, is killed with SIGKILL. Measured are the seconds from
the start of the new process to its first output (driver), or the longest pause between outputs, less the restart
delay (worker). The driver is a script of its own (``--by python``) or one that ``sage run`` starts (``--by sage``).
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate

from sage.runners.local import LocalRunner
from sage.sources import Batch, ReadStream, SplitReader, StreamSource
from tests.benchmarks.measure import ROOT

SAGE = "import sys; from sage.jobs.cli import main; sys.exit(main())"
DELAY = 0.1  # s, before a job that lost a worker begins again
PATIENCE = 120.0  # s
LOOK = 15.0  # s, in which a job that lost a worker is to be at work again


class _Reader(SplitReader[Any]):
    def __init__(self, position: int, keys: int) -> None:
        self.at, self.keys, self.began, self.first = position, keys, time.monotonic(), position

    def poll(self, limit: int) -> Batch | None:
        if self.at < self.keys:  # the state, as fast as it goes
            upto = min(self.at + limit, self.keys)
        else:  # then a thousand events a second
            upto = min(self.at + limit, max(self.first, self.keys) + int((time.monotonic() - self.began) * 1_000))
        if upto <= self.at:
            return None
        numbers = range(self.at, upto)
        self.at = upto
        return Batch([(number % self.keys, number) for number in numbers], 0)

    def position(self) -> int:
        return self.at

    def watermark(self) -> int:
        return 0


class Events(StreamSource[Any]):
    """One event for each key, and then one after another for ever."""

    def __init__(self, keys: int) -> None:
        self.keys = keys

    def splits(self) -> list[str]:
        return ["only"]

    def reader(self, split: Any, position: Any) -> _Reader:
        return _Reader(position or 0, self.keys)


class Remember(beam.DoFn):
    """Keeps so many bytes for a key; says when it meets one that it has kept before."""

    KEPT = userstate.ReadModifyWriteStateSpec("kept", beam.coders.BytesCoder())

    def __init__(self, size: int) -> None:
        self.size = size

    def process(self, element: Any, kept: Any = beam.DoFn.StateParam(KEPT)) -> Iterator[Any]:
        _, number = element
        if kept.read() is None:
            kept.write(number.to_bytes(8, "big") * (self.size // 8))
        else:
            yield number


def job(argv: list[str]) -> None:
    """What ``sage run`` calls, which has the other options."""
    keys, size, out = argv
    run_job(beam.Pipeline(options=PipelineOptions([])), int(keys), int(size), out)


def script(arguments: argparse.Namespace) -> None:
    """What the script does, which has its options by keyword."""
    kept, out = arguments.job
    options = PipelineOptions([], **options_of(arguments, kept))
    run_job(beam.Pipeline(runner=LocalRunner(), options=options), arguments.keys, arguments.bytes, out)


def options_of(arguments: argparse.Namespace, kept: str) -> dict[str, Any]:
    return {
        "workers": arguments.workers,
        "checkpoint_dir": kept,
        "checkpoint_interval": "1s",
        "state_backend": arguments.backend,
        "restart": f"fixed-delay:5:{int(DELAY * 1000)}ms",
    }


def run_job(pipeline: beam.Pipeline, keys: int, size: int, out: str) -> None:
    """The job; each output is a line in ``out`` with the time at which it was made."""

    def tell(number: int) -> None:
        with open(out, "a") as file:
            file.write(f"{time.time()} {number}\n")

    (
        pipeline
        | ReadStream(Events(keys))
        | beam.Map(lambda pair: pair).with_output_types(tuple[int, int])
        | beam.ParDo(Remember(size))
        | beam.Map(tell)
    )
    pipeline.run().wait_until_finish()


def start(arguments: argparse.Namespace, folder: Path, out: Path) -> subprocess.Popen[bytes]:
    if arguments.by == "sage":
        options = options_of(arguments, str(folder / "kept")).items()
        command = [sys.executable, "-c", SAGE, "run", "tests.benchmarks.recovery:job"]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in options]
        command += ["--", str(arguments.keys), str(arguments.bytes), str(out)]
    else:
        command = [sys.executable, "-m", "tests.benchmarks.recovery", "--job", str(folder / "kept"), str(out)]
        command += [f"--{name}={getattr(arguments, name)}" for name in ("keys", "bytes", "workers", "backend")]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for(path: Path, after: float = 0.0) -> float:
    """The time of the first output after a time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if path.exists():
            for line in path.read_text().splitlines():
                if " " in line and (at := float(line.split()[0])) > after:
                    return at
        time.sleep(0.01)
    raise TimeoutError("the job gave no output")


def checkpoint_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "kept").rglob("*") if path.is_file())


def workers_of(driver: int) -> list[int]:
    """The worker processes of a driver: the children of the process that forks them."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout.split("\n")
    parents = [tuple(map(int, line.split())) for line in listed[1:] if line.strip()]
    children = {pid for pid, parent in parents if parent == driver}
    return [pid for pid, parent in parents if parent in children]


def longest_pause(path: Path, after: float) -> float:
    """The longest time between two outputs after a time (s)."""
    times = sorted(float(line.split()[0]) for line in path.read_text().splitlines() if " " in line)
    times = [at for at in times if at > after]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def measure(arguments: argparse.Namespace, whom: str) -> tuple[float, int]:
    """The seconds to the first output, and the size of the checkpoints (bytes)."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        job = start(arguments, folder, folder / "first")
        try:
            wait_for(folder / "first")
            time.sleep(4.0)
            size = checkpoint_bytes(folder)
            if whom == "worker":
                killed = time.time()
                os.kill(workers_of(job.pid)[-1], signal.SIGKILL)
                time.sleep(LOOK)
                return longest_pause(folder / "first", killed - 1.0) - DELAY, size
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
            again = time.time()
            job = start(arguments, folder, folder / "second")
            return wait_for(folder / "second", again) - again, size
        finally:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=104)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--backend", default="memory")
    parser.add_argument("--by", choices=["python", "sage"], default="python")
    parser.add_argument("--kill", choices=["driver", "worker"], default="driver")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--job", nargs=2)
    arguments = parser.parse_args()
    if arguments.job:
        script(arguments)
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # no job of ours is left behind
    for _ in range(arguments.rounds):
        seconds, size = measure(arguments, arguments.kill)
        print(
            f"{arguments.kill} killed, {arguments.workers} worker(s), begun by {arguments.by}, {arguments.backend}"
            f" state, {size / 1e6:.0f} MB of checkpoints: first output after {seconds:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
