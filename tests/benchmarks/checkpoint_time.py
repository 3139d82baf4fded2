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
            taken = [v.checkpoint for handle in handles if (v := handle.vitals()) is not None and v.checkpoint]
            if taken and taken[-1].number > last:
                last = taken[-1].number
                print(last, taken[-1].size_bytes, taken[-1].state_bytes, (taken[-1].ended_ms - taken[-1].began_ms) / 1e3, flush=True)
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
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   start_new_session=True)  # fmt: skip
        overdue = threading.Timer(arguments.longest, lambda: os.kill(process.pid, signal.SIGINT))
        overdue.start()
        print(f"{workers} worker(s), {backend} state:", flush=True)
        try:
            stopped, asked = 0.0, False
            assert process.stdout is not None
            for line in process.stdout:
                epoch, size, state, took = line.split()
                size = size if backend == "memory" else state
                print(f"  checkpoint {epoch}: {int(size) / 1e6:.1f} MB in {float(took):.2f} s", flush=True)
                if int(size) >= arguments.mb * 1e6 and not asked:
                    asked, stopped = True, time.monotonic()
                    overdue.cancel()
                    os.kill(process.pid, signal.SIGINT)
            code = process.wait(PATIENCE)
            stopped = stopped or began + arguments.longest
            print(f"  from the signal to the end: {time.monotonic() - stopped:.2f} s, exit code {code}", flush=True)
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
