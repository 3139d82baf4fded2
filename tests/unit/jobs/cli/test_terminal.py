"""What can be read on a terminal while the live display runs, and when it has ended."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import patience

COLUMNS, ROWS = 110, 35
RUN = ["-c", "import sys; from sage.jobs.cli import main; sys.exit(main())", "run"]

STREAM = """
import logging, sys, time, warnings
import apache_beam as beam
from sage.sources import ReadStream
from tests.recovery.streams import Numbers

said = set()

def seen(pair):
    if not said:
        said.add(True)
        print("printed by a function", flush=True)
        print("error printed by a function", file=sys.stderr, flush=True)
        logging.getLogger("mine").warning("logged by a function")
        warnings.warn("warned of by a function")
    return pair

with beam.Pipeline() as p:
    p | "Read" >> ReadStream(Numbers(1_000_000, 500)) | "See" >> beam.Map(seen)
"""


class Screen:
    """A terminal: what stands on it after what was written, scrolled-off lines included."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\r":
                self._column = 0
            elif part == "\n":
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif part.startswith("\x1b"):
                self._control(part)
            else:
                line = self.lines[self._row].ljust(self._column)
                self.lines[self._row] = line[: self._column] + part + line[self._column + len(part) :]
                self._column += len(part)

    def _control(self, sequence: str) -> None:
        if sequence.endswith("A"):
            self._row = max(self._row - int(sequence[2:-1] or 1), 0, len(self.lines) - ROWS)
        elif sequence.endswith("K"):
            self.lines[self._row] = ""

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Terminal:
    """A command on a pseudo-terminal of 110 columns and 35 rows."""

    def __init__(self, *command: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[4]), "COLUMNS": "110"},
            preexec_fn=lambda: (fcntl.ioctl(0, termios.TIOCSCTTY, 0), signal.signal(signal.SIGINT, signal.SIG_DFL)),
        )  # fmt: skip
        os.close(slave)
        self.screen = Screen()
        self._alarm = signal.signal(signal.SIGALRM, self._hang)
        signal.alarm(int(patience(60)))

    def _hang(self, *_: object) -> None:
        raise TimeoutError("\n".join(self.screen.lines))

    def read_until(self, seen: Callable[[Screen], bool]) -> None:
        """Reads until the screen shows something; to the end, if it never does."""
        while not seen(self.screen):
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # how the end of a terminal's last process is told
                return
            self.screen.feed(data.decode("utf-8", "replace"))

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def end(self) -> int:
        try:
            self.read_until(lambda _: False)
            return self.process.wait(patience(30))
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, self._alarm)
            os.close(self._master)
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "orders.py"
    path.write_text(STREAM)
    return str(path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_said_while_the_display_runs_can_be_read(job: str, tmp_path: Path, workers: str) -> None:
    terminal = Terminal(*RUN, job, "--checkpoint-dir", str(tmp_path / "kept"), f"--workers={workers}")
    terminal.read_until(lambda screen: screen.shows("logged by a function") and screen.shows("elements/s"))

    terminal.press_ctrl_c()
    code = terminal.end()

    screen = terminal.screen
    assert code == 0, screen.lines
    for line in (
        "orders begins anew: no checkpoint in",
        "printed by a function",
        "error printed by a function",
        "logged by a function",
        "warned of by a function",
        "stopping orders with a last checkpoint; again ends it at once",
        "stopped orders; its state is in ",
        "orders  stopped",
    ):
        assert screen.shows(line), (line, screen.lines)
    assert sum("elements/s" in line for line in screen.lines) == 1, screen.lines


def test_a_job_that_is_ended_at_once_leaves_the_display_in_order(job: str) -> None:
    terminal = Terminal(*RUN, job)
    terminal.read_until(lambda screen: screen.shows("elements/s") and screen.shows("logged by a function"))

    terminal.press_ctrl_c()
    code = terminal.end()

    assert code == 130
    assert terminal.screen.shows("interrupted: stopped orders")
    assert sum("elements/s" in line for line in terminal.screen.lines) == 1, terminal.screen.lines
