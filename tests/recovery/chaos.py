"""Real jobs, killed at random moments: ``python -m tests.recovery.chaos --kills 200``, or ``make chaos``.

Each run of a job is killed a few times, the driver or one of its workers, by SIGKILL, and begun again where it does not
begin again by itself, mostly with another number of workers. What it has written in the end must be what an
uninterrupted run writes, as a multiset. Of a run that went wrong, its folder is kept: what it said, its checkpoints,
its output and what should have been its output.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
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
from tests.patience import patience

ENDS_WITHIN_S = patience(120.0)
LONGEST_S = 2.0  # from when there is something to kill, to its kill
LATECOMERS_S = 1.0
BACKENDS = ("memory", "rocksdb")
WIDTHS = (1, 2, 3)
KAFKA_CLIENTS = ("kafka-python", "confluent-kafka")
KEPT = ROOT / "out" / "chaos"


class Pipeline(Protocol):
    """What is run and looked at."""

    name: str
    endless: bool

    def arguments(self) -> list[str]:
        """Of the program."""

    def output(self) -> Counter[str]:
        """What can be read of the output now."""

    def expected(self) -> Counter[str]:
        """What is to be there in the end."""

    def close(self) -> None:
        """Lets go of what it holds."""


@dataclasses.dataclass
class ToFiles:
    """One of the jobs that write files.

    Attributes:
        name: which one.
        folder: where its files go.
        upto: how many numbers each split has (count).
        rate: how many of them appear in a second.
    """

    name: str
    folder: Path
    upto: int = 9_000
    rate: int = 1_500
    endless = False

    def arguments(self) -> list[str]:
        return [self.name, str(self.upto), str(self.rate), str(self.folder)]

    def output(self) -> Counter[str]:
        return Counter(line for file in self.folder.glob("part-*") for line in file.read_text().splitlines())

    def expected(self) -> Counter[str]:
        return _uninterrupted(self.name, self.upto)

    def close(self) -> None:
        """Its folder is the run's."""


def _uninterrupted(name: str, upto: int) -> Counter[str]:
    """What a run writes that nobody kills."""
    with _one:
        if (name, upto) not in _known:
            with tempfile.TemporaryDirectory() as folder:
                job = ToFiles(name, Path(folder) / "out", upto, 0)
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

    State: what was killed, how many workers there are since, and the two as people read it.
    """

    job: Pipeline
    folder: Path
    dice: random.Random
    kills: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.backend = self.dice.choice(BACKENDS)
        self.workers = self.dice.choice(WIDTHS)
        self.story = f"{self.job.name}, state in {self.backend}, on {self.workers}; killed:"

    def __str__(self) -> str:
        return self.story

    def go(self, kills: int) -> str:
        """Runs the job with so many kills, or fewer if it ends before; says what is wrong in the end."""
        self.job.expected()  # takes its time, and the job would go on meanwhile
        driver = self._start()
        try:
            for _ in range(kills):
                victim = "worker" if self.workers > 1 and self.dice.random() < 0.6 else "driver"
                if not self._moment(driver, victim):
                    break
                driver = self._kill(driver, victim)
            return self._verdict(driver)
        finally:
            _end(driver)

    def _start(self) -> subprocess.Popen[str]:
        options = [
            f"--checkpoint_dir={self.folder / 'kept'}",
            "--checkpoint_interval=100ms",
            f"--job_name={self.job.name}-{self.folder.name}",
            f"--workers={self.workers}",
            f"--state_backend={self.backend}",
            f"--state_dir={self.folder / 'state'}",
            "--restart=exponential:100ms:1s",
        ]
        traced = {**os.environ, "PYTHONFAULTHANDLER": "1"}
        with open(self.folder / "said", "a", encoding="utf-8") as said:
            return subprocess.Popen(
                _command(self.job, options),
                cwd=ROOT,
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
                env=traced,
            )

    def _has_checkpoints(self, driver: int) -> bool:
        """Whether a driver has been given its checkpoints: before, a kill would only hit imports."""
        try:
            (owner,) = self.folder.glob("kept/*/OWNER.json")
            return bool(json.loads(owner.read_text())["process"] == driver)
        except (OSError, ValueError):
            return False

    def _moment(self, driver: subprocess.Popen[str], victim: str) -> bool:
        """Waits until the next kill; whether there is something to kill then."""
        early = victim == "driver" and self.dice.random() < 0.25  # also where it starts its workers
        deadline = time.monotonic() + ENDS_WITHIN_S
        needed = 0 if early or self.workers == 1 else self.workers  # a single worker is the driver itself
        while driver.poll() is None and time.monotonic() < deadline:
            if self._has_checkpoints(driver.pid) and len(_workers(driver.pid)) >= needed:
                break
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(self.dice.uniform(0.0, LONGEST_S))
        # A job that has written all is over, and would be run anew.
        return driver.poll() is None and (self.job.endless or self.job.output() != self.job.expected())

    def _kill(self, driver: subprocess.Popen[str], victim: str) -> subprocess.Popen[str]:
        """Kills a worker if there is one, or the driver, which is begun again; gives the driver there is then."""
        workers = _workers(driver.pid) if victim == "worker" else []
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(workers), signal.SIGKILL)
            self.kills.append("worker")
            self.story += " worker"
            return driver
        driver.kill()
        driver.wait()
        self.kills.append("driver")
        if self._has_ended():
            self.story += " driver (at its end)"
            return driver
        self.workers = self.dice.choice((self.workers, *WIDTHS))
        self.story += f" driver (on {self.workers})"
        return self._start()

    def _has_ended(self) -> bool:
        """Whether a driver that is dead had ended its job, and would begin it anew."""
        left = any(self.folder.glob("kept/*/chk-*"))
        return not self.job.endless and not left and self.job.output() == self.job.expected()

    def _verdict(self, driver: subprocess.Popen[str]) -> str:
        expected = self.job.expected()
        deadline = time.monotonic() + ENDS_WITHIN_S
        problem = ""
        while driver.poll() is None:
            if self.job.endless and sum(self.job.output().values()) >= sum(expected.values()):
                time.sleep(LATECOMERS_S)
                break
            if time.monotonic() > deadline:
                problem = f"it did not end within {ENDS_WITHIN_S:g} s; "
                for process in [driver.pid, *_workers(driver.pid)]:
                    os.kill(process, signal.SIGABRT)  # to say where each thread is
                driver.wait()
                break
            time.sleep(0.1)
        else:
            killed = driver.returncode == -signal.SIGKILL and self._has_ended()
            problem = f"it ended with {driver.returncode}; " if driver.returncode and not killed else ""
        found = self.job.output()
        lost, more = expected - found, found - expected
        if lost or more:
            problem += f"{sum(lost.values())} lost {list(lost)[:3]}, {sum(more.values())} too many {list(more)[:3]}"
        return problem

    def keep(self) -> Path:
        """Puts aside what is left of the run; gives the folder."""
        for name, rows in (("expected", self.job.expected()), ("found", self.job.output())):
            (self.folder / name).write_text("\n".join(sorted(rows.elements())))
        KEPT.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(self.folder, KEPT / f"{self.job.name}-{time.time_ns() // 1_000_000}"))


def _workers(driver: int) -> list[int]:
    """The worker processes of a driver: the children of its children, for a clean process forks them."""
    return [worker for child in _children(driver) for worker in _children(child)]


def _children(process: int) -> list[int]:
    """What the threads of a process have begun."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(number) for number in listed.read_text().split()]
    return found


def _end(driver: subprocess.Popen[str]) -> None:
    if driver.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def jobs(names: list[str], folder: Path, kafka: str | None) -> Iterator[tuple[Pipeline, Path]]:
    """One job after another, each with a folder of its own."""
    for number in itertools.count():
        name = names[number % len(names)]
        own = folder / f"run-{number}"
        own.mkdir()
        if name == "kafka":
            from tests.recovery.chaos_kafka import ToKafka

            assert kafka is not None
            yield ToKafka(kafka, KAFKA_CLIENTS[number // len(names) % 2]), own
        else:
            yield ToFiles(name, own / "out"), own


@dataclasses.dataclass
class Tally:
    """What came of the runs of one pipeline (counts).

    Attributes:
        runs: how many there were.
        equal: how many of them wrote what they should.
        drivers: how often a driver was killed.
        workers: how often a worker was killed.
        survived: the kills in runs that wrote what they should.
    """

    runs: int = 0
    equal: int = 0
    drivers: int = 0
    workers: int = 0
    survived: int = 0

    @property
    def kills(self) -> int:
        return self.drivers + self.workers

    def add(self, kills: list[str], equal: bool) -> None:
        """One run more."""
        self.runs += 1
        self.equal += equal
        self.drivers += kills.count("driver")
        self.workers += kills.count("worker")
        self.survived += len(kills) if equal else 0


def chaos(
    kills: int, names: list[str], seed: int, each: int, side_by_side: int, kafka: str | None = None
) -> dict[str, Tally]:
    """Kills jobs until there were so many kills; gives what came of it for each pipeline.

    Args:
        kills: how many (count).
        names: the pipelines, in turn.
        seed: of the moments; processes keep their own time, so that a seed is no repetition.
        each: the most kills in one run (count).
        side_by_side: how many runs there are at a time (count).
        kafka: the broker, ``host:port``, if one of the pipelines needs it.
    """
    dice = random.Random(seed)
    tallies = {name: Tally() for name in names}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sage-chaos-") as folder, ThreadPoolExecutor(side_by_side) as threads:
        source = jobs(names, Path(folder), kafka)
        while (done := sum(tally.kills for tally in tallies.values())) < kills:
            runs = [Run(job, own, random.Random(dice.random())) for job, own in itertools.islice(source, side_by_side)]
            shares = [min(each, max(1, (kills - done) // len(runs)))] * len(runs)
            for run, problem in zip(runs, threads.map(Run.go, runs, shares), strict=True):
                tallies[run.job.name].add(run.kills, not problem)
                if problem:
                    print(f"WRONG: {run}: {problem}\n  what is left of it: {run.keep()}", flush=True)
                else:
                    print(f"{time.monotonic() - started:5.0f} s  {run}", flush=True)
                run.job.close()
                shutil.rmtree(run.folder, ignore_errors=True)
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """What came of it, to be read by people."""
    lines = [f"{'pipeline':<10}{'runs':>7}{'equal':>7}{'kills':>7}{'driver':>8}{'worker':>8}{'survived':>10}"]
    total = Tally(*(sum(numbers) for numbers in zip(*map(dataclasses.astuple, tallies.values()), strict=True)))
    for name, tally in [*tallies.items(), ("all", total)]:
        equal, killed = f"{tally.runs:>7}{tally.equal:>7}", f"{tally.kills:>7}{tally.drivers:>8}{tally.workers:>8}"
        lines.append(f"{name:<10}{equal}{killed}{f'{tally.survived}/{tally.kills}':>10}")
    return "\n".join(lines)


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
        tallies = chaos(args.kills, names, args.seed, args.each, args.side_by_side, address)
    print(table(tallies))
    wrong = sum(tally.runs - tally.equal for tally in tallies.values())
    print("nothing lost, nothing twice" if not wrong else f"{wrong} runs went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
