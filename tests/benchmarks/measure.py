"""How a figure is made: turns in fresh processes, slopes between two sizes, ratios within a round."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "OURS",
    "ROOT",
    "Failed",
    "Ratio",
    "Row",
    "Settings",
    "Turn",
    "child_command",
    "child_environment",
    "compare",
    "finished",
    "human",
    "installed",
    "parse_turn",
    "rounds",
    "run_child",
    "work_dir",
]

ROOT = Path(__file__).resolve().parents[2]

OURS = "sage"
"""The way that is ours; all others are peers."""


class Failed(Exception):
    """A measured run that did not finish, or finished with a wrong answer."""


@dataclass(frozen=True)
class Settings:
    """What the command line asked for.

    Attributes:
        quick: smaller sizes and fewer rounds.
        say: prints one line of progress.
    """

    quick: bool = False
    say: Callable[[str], None] = print

    def pick(self, quick: Any, full: Any) -> Any:
        """``quick`` under ``--quick``, else ``full``."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Row:
    """One line of the table: a measured figure and the bar it is held to.

    Attributes:
        benchmark: its ``--only`` name.
        what: what is compared.
        value: the figure; None when it could not be measured.
        asked: the bar; None when the line is there for information.
        unit: ``x`` for ratios, else ``s`` or ``MB``.
        at_least: whether the figure has to reach the bar (True) or to stay under it (False).
        note: rates and ranges behind the figure, or why there is none.
    """

    benchmark: str
    what: str
    value: float | None
    asked: float | None = None
    unit: str = "x"
    at_least: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``MISSED``, ``FAILED`` or, without a bar, nothing."""
        if self.value is None:
            return "FAILED" if self.asked is not None else "skipped"
        if self.asked is None:
            return ""
        good = self.value >= self.asked if self.at_least else self.value <= self.asked
        return "ok" if good else "MISSED"


@dataclass(frozen=True)
class Turn:
    """What one fresh process measured.

    Attributes:
        sizes: how many elements (or bytes) each timed run handled.
        walls: seconds of wall time of each.
        cpus: seconds of CPU time of each, child processes included.
        extra: what else the way reported for its last run.
    """

    sizes: list[int]
    walls: list[float]
    cpus: list[float]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Elements a second of wall time: the slope between smallest and largest size, by the best time of each."""
        return slope(self.sizes, self.walls)

    @property
    def rate_by_cpu(self) -> float:
        """Elements a second of CPU time, likewise: what the rate would be on a machine with nothing else to do."""
        return slope(self.sizes, self.cpus)

    @property
    def rate_of_one(self) -> float:
        """Elements a second of the largest size alone, start-up included: for figures that are end to end."""
        return max(self.sizes) / best(self.sizes, self.walls)[max(self.sizes)]


def best(sizes: Sequence[int], seconds: Sequence[float]) -> dict[int, float]:
    """The best time of each size."""
    return {size: min(took for each, took in zip(sizes, seconds, strict=True) if each == size) for size in sizes}


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Elements a second between the smallest and the largest size.

    Raises:
        Failed: the sizes are too close to tell.
    """
    times = best(sizes, seconds)
    small, large = min(times), max(times)
    if large <= small or times[large] <= times[small]:
        raise Failed(f"no slope between {sizes} elements in {seconds} s: the sizes are too close")
    return (large - small) / (times[large] - times[small])


@dataclass
class Ratio:
    """Ratios of the rounds, taken pair by pair so that a slow spell of the machine hits both sides."""

    pairs: list[tuple[float, float]]

    @property
    def median(self) -> float:
        return statistics.median(ours / peer for ours, peer in self.pairs)

    @property
    def note(self) -> str:
        """Both rates (medians) and the range of the ratios."""
        ratios = [ours / peer for ours, peer in self.pairs]
        ours, peer = (statistics.median(side) for side in zip(*self.pairs, strict=True))
        spread = f", {min(ratios):.2f}..{max(ratios):.2f} in {len(ratios)} rounds" if len(ratios) > 1 else ""
        return f"{human(ours)}/s against {human(peer)}/s{spread}"


def human(number: float) -> str:
    """A rate in three digits: 4.61 M, 892 k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def installed(module: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(module) is not None


def work_dir() -> Path:
    """Folder for generated inputs, kept between runs: ``$SAGE_BENCH_DIR`` or one in the temporary folder."""
    path = Path(os.environ.get("SAGE_BENCH_DIR") or Path(tempfile.gettempdir(), "sage-bench"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def child_environment() -> dict[str, str]:
    """The environment of a measured process: this repository first on the path, quiet logs."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": "ignore"}


def child_command(module: str, way: str, sizes: Sequence[int], **arguments: Any) -> list[str]:
    """The command line of one turn, for those who watch the process themselves."""
    order = {"module": module, "way": way, "sizes": list(sizes), "arguments": arguments}
    return [sys.executable, "-m", "tests.benchmarks.child", json.dumps(order)]


def parse_turn(output: str, complaint: str) -> Turn:
    """The turn a child printed as its last line.

    Raises:
        Failed: there is none; the message is the end of what the child said on stderr.
    """
    lines = [line for line in output.splitlines() if line.startswith('{"sizes"')]
    if not lines:
        reason = [line for line in complaint.strip().splitlines() if line.strip()]
        raise Failed(" | ".join(reason[-3:]) or "the run ended without a result")
    return Turn(**json.loads(lines[-1]))


def run_child(module: str, way: str, sizes: Sequence[int], *, timeout: float = 300, **arguments: Any) -> Turn:
    """Time ``way`` of ``tests.benchmarks.<module>`` at each size, in a fresh process.

    Raises:
        Failed: it raised, gave a wrong answer, or took longer than ``timeout`` seconds.
    """
    command = child_command(module, way, sizes, **arguments)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{way} did not finish {sizes} in {timeout:.0f} s") from None
    return parse_turn(done.stdout, done.stderr)


def rounds(
    settings: Settings, module: str, ways: dict[str, Sequence[int]], count: int, **arguments: Any
) -> dict[str, list[Turn] | Failed]:
    """Let the ways take turns, ``count`` times round; a way that fails takes no further turn.

    Args:
        ways: the sizes of each way; a slow peer may be given smaller ones, as only the slope is used.
    """
    turns: dict[str, list[Turn] | Failed] = {way: [] for way in ways}
    for number in range(count):
        for way, sizes in ways.items():
            so_far = turns[way]
            if isinstance(so_far, Failed):
                continue
            started = time.monotonic()
            try:
                turn = run_child(module, way, sizes, **arguments)
                so_far.append(turn)
                outcome = f"{human(turn.rate if len(set(sizes)) > 1 else turn.rate_of_one)}/s"
            except Failed as error:
                turns[way] = error
                outcome = f"failed: {error}"
            settings.say(f"{module}: round {number + 1}/{count} {way}: {outcome} ({time.monotonic() - started:.0f} s)")
    return turns


def finished(turns: dict[str, list[Turn] | Failed], way: str) -> list[Turn]:
    """The turns of a way.

    Raises:
        Failed: one of them did; the message names the way.
    """
    side = turns[way]
    if isinstance(side, Failed):
        raise Failed(f"{way}: {side}")
    return side


def compare(
    name: str,
    what: str,
    turns: dict[str, list[Turn] | Failed],
    peer: str,
    asked: float | None,
    *,
    cpu: bool = True,
) -> Row:
    """The row of ours against one peer.

    Args:
        cpu: whether to say the ratio by CPU time too; it misleads where worker processes keep theirs to themselves.
    """
    try:
        turned = list(zip(finished(turns, OURS), finished(turns, peer), strict=True))
        ratio = Ratio([(ours.rate, theirs.rate) for ours, theirs in turned])
    except Failed as error:
        return Row(name, what, None, asked, note=str(error))
    return Row(name, what, ratio.median, asked, note=ratio.note + (by_cpu(turned) if cpu else ""))


def by_cpu(pairs: list[tuple[Turn, Turn]]) -> str:
    """The ratio by CPU time as words; nothing where the clock of the CPU is too coarse to tell."""
    try:
        return f"; {Ratio([(ours.rate_by_cpu, theirs.rate_by_cpu) for ours, theirs in pairs]).median:.2f} by CPU time"
    except Failed:
        return ""
