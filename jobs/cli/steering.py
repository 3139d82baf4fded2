"""`sage jobs`, `savepoint`, `stop` and `drain`: watching and steering jobs that run in another terminal."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from sage.errors import CheckpointError, SageError
from sage.handle import Checkpointed, Vitals
from sage.jobs.cli.control import RunningJob, ask, find_job, running_jobs
from sage.jobs.cli.exits import exit_code_of
from sage.jobs.cli.progress import vitals_text

__all__ = ["drain", "jobs", "savepoint", "stop"]

_BETWEEN_LOOKS_S = 0.5
_SLOW_S = 2.0
_JOB = "JOB is the job's name or its process id; it may be left out where one job runs."


@click.command(help="List the jobs that run on this machine under `sage run`.", short_help="List running jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
def jobs(as_json: bool) -> int:
    found, rates = _looked_at_twice()
    if as_json:
        shown = [{"process": job.process, **job.status, "reads_per_second": rates.get(_id(job))} for job in found]
        click.echo(json.dumps(shown, indent=2))
        return 0
    for job in found:
        vitals = _vitals(job.status["vitals"])
        line = vitals_text(vitals, time.time(), rates.get(_id(job))) if vitals is not None else ""
        click.echo(f"{job.name}  {job.status['state'].lower()}  process {job.process}  {line}".rstrip())
    if not found:
        click.echo("no job runs")
    return 0


def _looked_at_twice() -> tuple[list[RunningJob], dict[tuple[int, str], float]]:
    """The jobs that run, and what those that read streams read in a second (count)."""
    jobs, began = running_jobs(), time.monotonic()
    before = {_id(job): read for job in jobs if (read := _read(job))}
    if not before:
        return jobs, {}
    time.sleep(_BETWEEN_LOOKS_S)
    jobs, seconds = running_jobs(), time.monotonic() - began
    return jobs, {_id(job): max(0.0, (_read(job) - before[_id(job)]) / seconds) for job in jobs if _id(job) in before}


def _id(job: RunningJob) -> tuple[int, str]:
    return job.process, job.name


def _read(job: RunningJob) -> int:
    return int((job.status["vitals"] or {}).get("read", 0))


def _vitals(shown: dict[str, Any] | None) -> Vitals | None:
    if shown is None:
        return None
    checkpoint = shown["checkpoint"]
    return Vitals(**{**shown, "checkpoint": None if checkpoint is None else Checkpointed(**checkpoint)})


@click.command(
    help=f"""Take a savepoint of a running job, which goes on.

{_JOB} A savepoint is complete in itself: it stays when checkpoints are removed, it can be moved, and a job begins
from it with --restore-from PATH.""",
    short_help="Take a savepoint; the job goes on.",
)
@click.argument("job", required=False)
@click.option("--name", required=True, metavar="NAME", help="What to call it; a job has one savepoint of a name.")
def savepoint(job: str | None, name: str) -> int:
    return _steer(job, "savepoint", lambda path: f"savepoint in {path}", name=name)


@click.command(
    help=f"""Stop a running job in such a way that it can go on.

{_JOB} A last checkpoint is taken, what was put out so far is committed, and the same `sage run` goes on from there.
Windows that are open stay open: to have them give what they hold, drain the job instead.""",
    short_help="Stop a job with a last checkpoint.",
)
@click.argument("job", required=False)
@click.option("--savepoint", "name", metavar="NAME", help="Take a savepoint of this name, too. Default: none.")
@click.option("--now", is_flag=True, help="Take no checkpoint: end the job where it stands.")
def stop(job: str | None, name: str | None, now: bool) -> int:
    if now:
        return _steer(job, "cancel", lambda _: "stopped without a checkpoint")
    return _steer(job, "stop", lambda path: f"stopped with its state in {path}" if path else "stopped", name=name)


@click.command(
    help=f"""End a running job for good.

{_JOB} Its sources are read no more, every window gives what it holds, and the job ends when all is written.""",
    short_help="End a job's input; it ends when all is written.",
)
@click.argument("job", required=False)
def drain(job: str | None) -> int:
    return _steer(job, "drain", lambda _: "draining: the job ends when all is written")


def _steer(text: str | None, verb: str, shown: Callable[[Any], str], **more: Any) -> int:
    try:
        job: RunningJob = find_job(text)
        with _saying_if_slow(f"{job.name}: waiting until each step is through with what came before"):
            answer = ask(job.path, do=verb, job=job.name, **more)
    except (SageError, OSError) as error:
        # Whoever could not stop a job in good order may want it to stop all the same.
        besides = "; --now ends it where it stands" if verb == "stop" and isinstance(error, CheckpointError) else ""
        click.echo(f"error: {error}{besides}", err=True)
        return exit_code_of(error)
    click.echo(f"{job.name}: {shown(answer)}")
    return 0


@contextlib.contextmanager
def _saying_if_slow(what: str) -> Iterator[None]:
    """Says what is waited for, if it takes a while: a slow step may keep a checkpoint waiting for long."""
    shown = threading.Timer(_SLOW_S, click.echo, (what,), {"err": True})
    shown.daemon = True
    shown.start()
    try:
        yield
    finally:
        shown.cancel()
