"""What a job costs before its first element: ``sage run`` of a word count of a kilobyte, and ``import sage``."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.measure import ROOT, Failed, Row, Settings, child_environment
from tests.benchmarks.text import text_file

NAME = "start"
JOB = Path(__file__).with_name("small_job.py")
IMPORT_SAGE = "import time; t = time.perf_counter(); import sage; print(time.perf_counter() - t)"


def sage_command() -> list[str]:
    """The ``sage`` beside this interpreter, or on the path.

    Raises:
        Failed: there is none.
    """
    beside = Path(sys.executable).with_name("sage")
    found = str(beside) if beside.exists() else shutil.which("sage")
    if not found:
        raise Failed("the sage command is not installed here: pip install -e .")
    return [found]


def timed(command: list[str]) -> tuple[float, str]:
    """Wall seconds of a command and what it printed.

    Raises:
        Failed: it did not exit with 0 within a minute.
    """
    started = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)} took over a minute") from None
    seconds = time.perf_counter() - started
    if done.returncode:
        raise Failed(f"{' '.join(command)} exited with {done.returncode}: {done.stderr.strip()[-200:]}")
    return seconds, done.stdout


def bench(settings: Settings) -> list[Row]:
    """Differences taken within a round; the first round warms the disk and does not count."""
    count = settings.pick(5, 11)
    import_beam = [sys.executable, "-c", "import apache_beam"]
    more, beams, imports = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "counts")
        job = [*sage_command(), "run", str(JOB), "--", str(text_file(1_000)), out]
        try:
            for number in range(count + 1):
                beam, _ = timed(import_beam)
                ours, _ = timed(job)
                _, printed = timed([sys.executable, "-c", IMPORT_SAGE])
                if not list(Path(folder).glob("counts*")):
                    raise Failed("sage run wrote no counts")
                if number:
                    more.append(ours - beam)
                    beams.append(beam)
                    imports.append(float(printed))
        except Failed as error:
            return [Row(NAME, "sage run of a 1 kB word count", None, 0.8, "s", False, str(error))]
    note = f"{statistics.median(beams):.2f} s to import apache_beam; {min(more):.2f}..{max(more):.2f}, {count} rounds"
    return [
        Row(NAME, "sage run of 1 kB beyond import apache_beam", statistics.median(more), 0.8, "s", False, note),
        Row(NAME, "import sage", statistics.median(imports), 0.15, "s", False, f"{count} rounds"),
    ]
