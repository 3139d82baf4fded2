"""How long checkpoints take, and a stop: ``python -m tests.benchmarks.checkpoint_time``.

Runs `sage.jobs.orders` without ``--rate``, by ``sage run``, until it has taken a checkpoint of ``--mb`` or for
``--longest`` seconds, and then sends it one SIGINT. Printed are each checkpoint with what was written for it and the
time from its barrier to its manifest, and the time from the signal to the end of the process. With ``--kafka`` the job
reads and writes topics of that broker, which `sage.jobs.orders.feed` has filled.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sage.handle import observe_jobs
from tests.benchmarks.measure import ROOT

PATIENCE = 60.0  # s, for the job to end


def job(argv: list[str]) -> int:
    """``sage run`` with a thread that prints each checkpoint: its number, its bytes and its time (s)."""
    from sage.jobs.cli import main

    handles: list[Any] = []

    def tell() -> None:
        last = 0
        while True:
            for handle in handles:
                vitals = handle.vitals()
                taken = None if vitals is None else vitals.checkpoint
                if taken is not None and taken.number > last:
                    last = taken.number
                    seconds = (taken.ended_ms - taken.began_ms) / 1_000
                    print(last, taken.size_bytes, taken.state_bytes, seconds, flush=True)
            time.sleep(0.01)

    threading.Thread(target=tell, daemon=True).start()
    with observe_jobs(handles.append):
        return int(main(["run", *argv]))


def measure(arguments: argparse.Namespace, workers: int, backend: str) -> None:
    """Runs the job once, and prints what it took."""
    with TemporaryDirectory() as name:
        command = [sys.executable, "-m", "tests.benchmarks.checkpoint_time", "--job", "sage.jobs.orders"]
        command += [f"--workers={workers}", f"--state-backend={backend}", f"--checkpoint-interval={arguments.interval}"]
        command += ["--", "--output", str(Path(name) / "out")]
        if arguments.kafka:
            command += ["--kafka", arguments.kafka, "--topic-prefix", arguments.topic_prefix]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   start_new_session=True)  # fmt: skip
        asked: list[float] = []

        def stop() -> None:
            if not asked:
                asked.append(time.monotonic())
                os.kill(process.pid, signal.SIGINT)

        overdue = threading.Timer(arguments.longest, stop)
        overdue.start()
        print(f"{workers} worker(s), {backend} state:", flush=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                number, written, state, took = line.split()
                # What a store has in files is there already: only new ones are written.
                size = int(written if backend == "memory" else state)
                print(f"  checkpoint {number}: {size / 1e6:.1f} MB in {float(took):.2f} s", flush=True)
                if size >= arguments.mb * 1e6:
                    stop()
            code = process.wait(PATIENCE)
            print(f"  from the signal to the end: {time.monotonic() - asked[0]:.2f} s, exit code {code}", flush=True)
        finally:
            overdue.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=50.0, help="stop after a checkpoint of so many megabytes")
    parser.add_argument("--longest", type=float, default=40.0, help="stop after so many seconds in any case")
    parser.add_argument("--interval", default="5s", help="between two checkpoints")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--backend", nargs="+", default=["memory", "rocksdb"])
    parser.add_argument("--kafka", metavar="HOST:PORT")
    parser.add_argument("--topic-prefix", default="")
    arguments = parser.parse_args()
    for backend in arguments.backend:
        for workers in arguments.workers:
            measure(arguments, workers, backend)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        sys.exit(job(sys.argv[2:]))
    main()
