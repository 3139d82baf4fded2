"""Real jobs, killed at random moments: ``python -m tests.recovery.chaos --kills 200``, or ``make chaos``.

Each run of a job is killed a few times, the driver or one of its workers, by SIGKILL, and begun again where it does not
begin again by itself. What it has written in the end must be what an uninterrupted run writes, as a multiset.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tests.architecture.tree import ROOT

ENDS_WITHIN_S = 120.0
FIRST_S, LAST_S = 0.1, 2.5  # after a job reads its first elements, or begins again


class Pipeline(Protocol):
    """What is run and looked at."""

    name: str
    workers: int

    def arguments(self) -> list[str]:
        """Of the program."""

    def output(self) -> Counter[str]:
        """What can be read of the output now."""

    def expected(self) -> Counter[str]:
        """What is to be there in the end."""

    def begun(self) -> bool:
        """Whether something has been committed."""

    def close(self) -> None:
        """Lets go of what it holds."""


@dataclasses.dataclass
class ToFiles:
    """One of the jobs that write files.

    Attributes:
        name: which one.
        folder: where its files go.
        workers: how many it has (count).
        upto: how many numbers each split has (count).
        rate: how many of them appear in a second.
    """

    name: str
    folder: Path
    workers: int
    upto: int = 9_000
    rate: int = 1_500

    def arguments(self) -> list[str]:
        return [self.name, str(self.upto), str(self.rate), str(self.folder)]

    def output(self) -> Counter[str]:
        return Counter(line for file in self.folder.glob("part-*") for line in file.read_text().splitlines())

    def expected(self) -> Counter[str]:
        return _uninterrupted(self.name, self.upto)

    def begun(self) -> bool:
        return any(self.folder.glob("part-*"))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _uninterrupted(name: str, upto: int) -> Counter[str]:
    """What a run writes that nobody kills."""
    with _one:
        if (name, upto) not in _known:
            with tempfile.TemporaryDirectory() as folder:
                job = ToFiles(name, Path(folder) / "out", 1, upto, 0)
                subprocess.run(_command(job, []), cwd=ROOT, check=True, capture_output=True, timeout=ENDS_WITHIN_S)
                _known[name, upto] = job.output()
        return _known[name, upto]


_known: dict[tuple[str, int], Counter[str]] = {}
_one = threading.Lock()


def _command(job: Pipeline, options: list[str]) -> list[str]:
    return [sys.executable, "-m", "tests.recovery.chaos_jobs", *job.arguments(), *options]


@dataclasses.dataclass
class Run:
    """One run of a job, with its kills.

    State: the process of its driver, and what was killed.
    """

    job: Pipeline
    folder: Path
    dice: random.Random
    kills: list[str] = dataclasses.field(default_factory=list)

    def go(self, kills: int) -> str:
        """Runs the job with so many kills, or fewer if it ends before; says what is wrong in the end."""
        self.job.expected()  # takes its time, and the job would go on meanwhile
        driver = self._start()
        try:
            for _ in range(kills):
                if not self._until_begun(driver) or not self._moment(driver):
                    break
                driver = self._kill(driver)
            return self._verdict(driver)
        finally:
            _end(driver)

    def _start(self) -> subprocess.Popen[str]:
        options = [
            f"--checkpoint_dir={self.folder / 'kept'}",
            "--checkpoint_interval=100ms",
            f"--job_name={self.job.name}-{self.folder.name}",
            f"--workers={self.job.workers}",
            "--restart=exponential:100ms:1s",
        ]
        with open(self.folder / "said", "a", encoding="utf-8") as said:
            return subprocess.Popen(
                _command(self.job, options), cwd=ROOT, stdout=said, stderr=said, text=True, start_new_session=True
            )

    def _until_begun(self, driver: subprocess.Popen[str]) -> bool:
        """Waits until the first output is there; whether the job still runs."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not self.job.begun() and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return driver.poll() is None

    def _moment(self, driver: subprocess.Popen[str]) -> bool:
        """Waits until the next kill; whether the job still runs then, and has not written all yet."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(self.dice.uniform(FIRST_S, LAST_S))
        # A job that has written all is over, and would be run anew.
        return self.job.output() != self.job.expected() and driver.poll() is None

    def _kill(self, driver: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Kills a worker, or the driver, which is begun again; gives the driver there is then."""
        workers = list(_workers(driver.pid))
        if workers and self.dice.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(workers), signal.SIGKILL)
            self.kills.append("worker")
            return driver
        driver.kill()
        driver.wait()
        self.kills.append("driver")
        return self._start()

    def _verdict(self, driver: subprocess.Popen[str]) -> str:
        expected = self.job.expected()
        deadline = time.monotonic() + ENDS_WITHIN_S
        while driver.poll() is None and time.monotonic() < deadline:
            if self.job.name == "kafka" and sum(self.job.output().values()) >= sum(expected.values()):
                time.sleep(1.0)  # for what might come twice
                break
            time.sleep(0.1)
        else:
            if driver.poll() is None:
                return f"it did not end within {ENDS_WITHIN_S:g} s"
        if driver.poll():
            return f"it ended with {driver.returncode}: {(self.folder / 'said').read_text()[-2000:]}"
        found = self.job.output()
        lost, more = expected - found, found - expected
        if lost or more:
            return f"{sum(lost.values())} lost {list(lost)[:3]}, {sum(more.values())} too many {list(more)[:3]}"
        return ""


def _workers(driver: int) -> Iterator[int]:
    """The worker processes of a driver: the children of its children, for a clean process forks them."""
    for child in _children(driver):
        yield from _children(child)


def _children(process: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _end(driver: subprocess.Popen[str]) -> None:
    if driver.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def jobs(names: list[str], folder: Path, dice: random.Random, kafka: str | None) -> Iterator[tuple[Pipeline, Path]]:
    """One job after another, each with a folder of its own."""
    for number in itertools.count():
        name = names[number % len(names)]
        own = folder / f"run-{number}"
        own.mkdir()
        workers = dice.choice((1, 2, 3))
        if name == "kafka":
            from tests.recovery.chaos_kafka import ToKafka

            assert kafka is not None
            yield ToKafka(kafka, workers), own
        else:
            yield ToFiles(name, own / "out", workers), own


def chaos(kills: int, names: list[str], seed: int, each: int, side_by_side: int, kafka: str | None = None) -> list[str]:
    """Kills jobs until there were so many kills; gives what was wrong, a line for each run.

    Args:
        kills: how many (count).
        names: the pipelines, in turn.
        seed: of the moments; processes keep their own time, so that a seed is no repetition.
        each: the most kills in one run (count).
        side_by_side: how many runs there are at a time (count).
        kafka: the broker, ``host:port``, if one of the pipelines needs it.
    """
    dice = random.Random(seed)
    done, good, wrong = 0, 0, list[str]()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sage-chaos-") as folder, ThreadPoolExecutor(side_by_side) as threads:
        source = jobs(names, Path(folder), dice, kafka)
        while done < kills:
            runs = [Run(job, own, random.Random(dice.random())) for job, own in itertools.islice(source, side_by_side)]
            shares = [min(each, max(1, (kills - done) // len(runs)))] * len(runs)
            for run, problem in zip(runs, threads.map(Run.go, runs, shares), strict=True):
                done += len(run.kills)
                if problem:
                    what = f"{run.job.name} at {run.job.workers} workers, killed {', '.join(run.kills)}: {problem}"
                    wrong.append(what)
                    print(what, flush=True)
                else:
                    good += len(run.kills)
                run.job.close()
                shutil.rmtree(run.folder, ignore_errors=True)
            print(f"{good}/{done} kills of {kills}, {time.monotonic() - started:.0f} s", flush=True)
    return wrong


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.recovery.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--pipelines", default="sums,timers,kafka", metavar="NAMES", help="%(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (%(default)s)")
    parser.add_argument("--each", type=int, default=5, metavar="N", help="kills in one run, at most (%(default)s)")
    parser.add_argument("--side-by-side", type=int, default=2, metavar="N", help="runs at a time (%(default)s)")
    args = parser.parse_args()
    names = args.pipelines.split(",")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        address = os.environ.get("SAGE_TEST_KAFKA")
        if "kafka" in names and not address:
            from tests.kafka.broker import Broker

            address = stack.enter_context(contextlib.closing(Broker().start())).address
        wrong = chaos(args.kills, names, args.seed, args.each, args.side_by_side, address)
    print("nothing lost, nothing twice" if not wrong else f"{len(wrong)} runs went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
