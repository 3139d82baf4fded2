"""`sage doctor`: what this machine has for running jobs, and what to do about what it has not."""

from __future__ import annotations

import enum
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import click

from sage.jobs.cli.exits import ExitCode
from sage.jobs.cli.version import installed_version

__all__ = ["Check", "Verdict", "doctor"]

_OLDEST_BEAM = (2, 61)
_LITTLE_DISK = 2 * 1024**3
_LITTLE_MEMORY = 1024**3


class Verdict(enum.Enum):
    """What a check found: all is well, something optional is missing, or no job can run."""

    OK = "ok"
    GAP = "gap"
    BROKEN = "broken"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        subject: what was looked at.
        verdict: what was found.
        found: the finding in words.
        advice: what to do about it; empty where there is nothing to do.
    """

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


@click.command(short_help="Check what this machine has for running jobs.")
def doctor() -> int:
    """Check this machine: Python, Beam, extras, Java, disk, memory, cores.

    A gap is something that only some jobs need, and the line under it says how to fill it. The exit code is 0
    unless something without which no job can run is broken.
    """
    colours = {Verdict.OK: "green", Verdict.GAP: "yellow", Verdict.BROKEN: "red"}
    verdicts = []
    for check in _CHECKS:
        result = check()
        verdicts.append(result.verdict)
        mark = click.style(f"{result.verdict.value:<6}", fg=colours[result.verdict])
        click.echo(f"{mark}  {result.subject:<12}  {result.found}")
        if result.advice:
            click.echo(f"{'':<22}-> {result.advice}")
    if Verdict.BROKEN in verdicts:
        click.echo("\nNo job can run here until what is broken is mended.")
        return ExitCode.FAILED
    click.echo("\nJobs can run here. Try: sage run job.py")
    return ExitCode.DONE


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    if (3, 10) <= sys.version_info < (3, 14):
        return Check("Python", Verdict.OK, found)
    return Check("Python", Verdict.BROKEN, found, "use Python 3.10, 3.11, 3.12 or 3.13")


def _beam() -> Check:
    version = installed_version("apache-beam")
    if version is None:
        return Check("Apache Beam", Verdict.BROKEN, "not installed", "pip install 'apache-beam>=2.61'")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_BEAM:
        return Check("Apache Beam", Verdict.BROKEN, version, "pip install 'apache-beam>=2.61'")
    return Check("Apache Beam", Verdict.OK, version)


def _extra(extra: str, module: str, distribution: str, purpose: str) -> Callable[[], Check]:
    def check() -> Check:
        if importlib.util.find_spec(module) is None:
            return Check(f"[{extra}]", Verdict.GAP, f"not installed: {purpose}", f"pip install 'sage-stream[{extra}]'")
        return Check(f"[{extra}]", Verdict.OK, f"{distribution} {installed_version(distribution) or ''}".rstrip())

    return check


def _java() -> Check:
    # Where Java is looked for is where PyFlink and Beam's cross-language transforms look for it.
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    advice = "install a JDK, 11 or newer, and set JAVA_HOME; only --runner flink and Beam's Java transforms need it"
    if java is None:
        return Check("Java", Verdict.GAP, "not found", advice)
    try:
        ran = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Java", Verdict.GAP, f"{java} does not run ({error})", advice)
    first = (ran.stderr or ran.stdout).strip().splitlines()
    return Check("Java", Verdict.OK, f"{first[0] if first else 'found'} at {java}")


def _temp_folder() -> Check:
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile() as file:
            file.write(b"sage")
    except OSError as error:
        advice = "make the temporary folder writable, or point TMPDIR at one that is"
        return Check("temp folder", Verdict.BROKEN, str(error), advice)
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {_size(free)} free"
    if free < _LITTLE_DISK:
        return Check("temp folder", Verdict.GAP, found, "large groupings spill here: free space, or give --spill-dir")
    return Check("temp folder", Verdict.OK, found)


def _memory() -> Check:
    available = _available_memory()
    if available is None:
        return Check("memory", Verdict.OK, "not known on this system")
    if available < _LITTLE_MEMORY:
        advice = "give --memory-limit, so that large groupings spill to disk"
        return Check("memory", Verdict.GAP, f"{_size(available)} available", advice)
    return Check("memory", Verdict.OK, f"{_size(available)} available")


def _available_memory() -> int | None:
    """Bytes that processes may still take: the machine's, or the container's where that is less."""
    limits = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            limits += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limits += [int(text) for text in [file.read().strip()] if text.isdigit()]
    except OSError:
        pass
    return min(limits, default=None)


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    hint = f"up to --workers {usable} make use of them" if usable > 1 else "more than one worker brings no speed"
    return Check("cores", Verdict.OK, f"{usable} usable ({hint})")


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GB" if count >= 1024**3 else f"{count / 1024**2:.0f} MB"


_CHECKS: tuple[Callable[[], Check], ...] = (
    _python,
    _beam,
    _extra("ray", "ray", "ray", "--runner ray"),
    _extra("flink", "pyflink", "apache-flink", "--runner flink"),
    _extra("yaml", "jinja2", "jinja2", "sage run pipeline.yaml"),
    _extra("kafka", "kafka", "kafka-python", "ReadFromKafka and WriteToKafka"),
    _extra("confluent", "confluent_kafka", "confluent-kafka", "a faster client for Kafka"),
    _extra("rocksdb", "rocksdict", "rocksdict", "--state-backend rocksdb"),
    _extra("avro", "fastavro", "fastavro", "WriteAvro"),
    _extra("postgres", "psycopg", "psycopg", "WriteToPostgres"),
    _java,
    _temp_folder,
    _memory,
    _cores,
)
