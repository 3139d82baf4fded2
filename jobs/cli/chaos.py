"""`sage chaos`: run a job under a simulator that crashes it anywhere, and compare what it puts out."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from sage.jobs.cli.exits import ExitCode, exit_code_of
from sage.jobs.cli.failure import explain, show
from sage.jobs.cli.report import stdout_kept_clean
from sage.jobs.cli.target import Target

__all__ = ["chaos"]

_HELP = """Crash a job again and again in a simulation, and see whether its output shows it.

\b
  sage chaos job.py                      a hundred runs, each under a seed of its own
  sage chaos job.py --seeds 10000        more of them
  sage chaos job.py --seed 4711          one run again, with what happened in it
  sage chaos job.py -- --count 500       the job's own options

The steps of the job and its sources are the real ones. Workers, network, clock and disk are simulated: a seed decides
who runs next, how late messages come, where a crash hits and what is lost with it. The job's sinks are not run; what
comes to them is compared with a run that nothing interrupts. Sinks are those with transactions; in a job that has none,
the last steps.

The job has to end, its sources have to give the same again from a position, and its output must not depend on the
order of arrival, the time of day or dice: else two runs differ without a crash. What waits for a time asks
`sage.runtime.now()`, the clock of whatever runs the job. What the job's own functions do to the world, they do in each
run.
"""
_SHOWN = 5


@dataclass(frozen=True)
class _Command:
    """What was asked for, as it is said again."""

    target: str
    job_options: tuple[str, ...]
    workers: int
    crashes: int

    def again(self, seed: int) -> str:
        options = ["--seed", str(seed)]
        if self.workers != _WORKERS:
            options += ["--workers", str(self.workers)]
        if self.crashes != _CRASHES:
            options += ["--crashes", str(self.crashes)]
        own = ["--", *self.job_options] if self.job_options else []
        return shlex.join(["sage", "chaos", self.target, *options, *own])


_WORKERS, _CRASHES = 3, 3


@click.command(help=_HELP, short_help="Crash a job in a simulation; compare its output.")
@click.argument("target")
@click.argument("job_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- JOB OPTIONS]")
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="How many runs.")
@click.option("--seed", type=int, default=None, metavar="N", help="Only this run; its events are shown.")
@click.option("--workers", type=click.IntRange(1), default=_WORKERS, show_default=True, help="The most workers.")
@click.option("--crashes", type=click.IntRange(0), default=_CRASHES, show_default=True, help="The most in a run.")
@click.option("--log", type=click.File("w"), default=None, metavar="FILE", help="Write every event of --seed there.")
@click.option("--traceback", "full", is_flag=True, help="Show every frame of an error.")
def chaos(
    target: str,
    job_options: tuple[str, ...],
    seeds: int,
    seed: int | None,
    workers: int,
    crashes: int,
    log: Any,
    full: bool,
) -> int:
    command = _Command(target, job_options, workers, crashes)
    try:
        with stdout_kept_clean():
            subject = _Subject(command)
        click.echo(f"compared: {'; '.join(subject.compared)}")
        if not subject.expected:
            click.echo("error: nothing comes there, interrupted or not: there is nothing to compare", err=True)
            return ExitCode.USAGE
        if seed is not None:
            return _one(subject, seed, log)
        return _many(subject, seeds)
    except (Exception, SystemExit) as error:
        show(explain(error), error, full=full)
        return exit_code_of(error)


class _Subject:
    """A job, what it puts out when nothing interrupts it, and how long such a run is."""

    def __init__(self, command: _Command) -> None:
        from sage.jobs.cli.capture import capture
        from sage.runners.simulation.output_recorder import compared, scenario_of
        from sage.runners.simulation.simulator import length, uninterrupted

        self.command = command
        pipeline = capture(Target.parse(command.target), command.job_options)
        self.scenario = scenario_of(pipeline, workers=command.workers, crashes=command.crashes)
        self.compared = compared(self.scenario.plan(1))
        expected = uninterrupted(self.scenario)
        if expected.error is not None:
            raise expected.error
        self.expected: Counter[Any] = expected.output
        self.length = length(self.scenario)

    def run(self, seed: int) -> Any:
        """What came of a seed."""
        from sage.runners.simulation.simulator import simulate

        with stdout_kept_clean(), _silence():
            return simulate(self.scenario, seed, self.length)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What a run logs of its crashes is what was asked for, and tells nobody anything."""
    logger = logging.getLogger("sage")
    saved = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(saved)


def _many(subject: _Subject, seeds: int) -> int:
    crashes = 0
    with _counting(seeds) as count:
        for seed in range(seeds):
            outcome = subject.run(seed)
            crashes += len(outcome.fates)
            if outcome.error is not None or outcome.output != subject.expected:
                break
            count(seed + 1)
        else:
            outcome = None
    if outcome is not None:
        _tell(subject, outcome)
        return ExitCode.FAILED
    records = sum(subject.expected.values())
    click.echo(f"{seeds} runs, {crashes} crashes, {records} records in each: nothing lost, nothing twice")
    return ExitCode.DONE


@contextlib.contextmanager
def _counting(seeds: int) -> Iterator[Any]:
    """Shows on a terminal how many runs are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    try:
        yield lambda done: click.echo(f"\r{done}/{seeds}", nl=False, err=True)
    finally:
        click.echo("\r", nl=False, err=True)


def _one(subject: _Subject, seed: int, log: Any) -> int:
    outcome = subject.run(seed)
    if log is not None:
        log.write("\n".join(outcome.log) + "\n")
    before = ""
    for event in outcome.log:
        if event.startswith(("attempt ", "fate ")):
            click.echo(_event_text(event, before))
        elif event != "crash ":
            before = event
    if outcome.error is None and outcome.output == subject.expected:
        click.echo(f"seed {seed}: nothing lost, nothing twice")
        return ExitCode.DONE
    _tell(subject, outcome)
    return ExitCode.FAILED


def _event_text(event: str, before: str) -> str:
    kind, *what = event.split()
    if kind == "attempt":
        return f"  attempt {what[0]} at {what[1]} workers"
    return f"  {' '.join(what)}, before: {before}"


def _tell(subject: _Subject, outcome: Any) -> None:
    """What is wrong with a run, and the line that runs it again."""
    from sage.runners.simulation.output_recorder import difference

    if outcome.error is not None:
        click.echo(f"seed {outcome.seed}: {type(outcome.error).__name__}: {outcome.error}")
    else:
        lost, more = difference(subject.expected, outcome.output)
        click.echo(f"seed {outcome.seed}: {sum(lost.values())} records lost, {sum(more.values())} too many")
        for label, records in (("lost", lost), ("too many", more)):
            for (step, record), times in sorted(records.items())[:_SHOWN]:
                click.echo(f"  {label}: {record}{f' ({times} times)' if times > 1 else ''}  in '{step}'")
            if len(records) > _SHOWN:
                click.echo(f"  and {len(records) - _SHOWN} others {label}")
    click.echo(f"again: {subject.command.again(outcome.seed)}")
