"""`sage checkpoints`: what is in a folder of checkpoints, and whether a job can go on from one."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from sage.errors import CheckpointError, SageError
from sage.jobs.cli.exits import ExitCode, exit_code_of
from sage.jobs.cli.failure import explain, show
from sage.jobs.cli.progress import size_text
from sage.jobs.cli.target import Target

__all__ = ["checkpoints"]

_HELP = """Look at checkpoints and savepoints.

\b
  sage checkpoints list PATH              a --checkpoint-dir, or the folder of one job in it
  sage checkpoints inspect PATH           one checkpoint or savepoint: what it holds, by step
  sage checkpoints check PATH job.py      whether the job, as it is now, can go on from it; nothing is run
"""


@click.group(help=_HELP, short_help="List, inspect and check checkpoints.")
def checkpoints() -> None:
    """The group of these commands."""


@checkpoints.command("list", help="The checkpoints and savepoints below PATH, the oldest first.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_(path: str, as_json: bool) -> int:
    def report() -> None:
        rows = [_row(manifest) for manifest in _manifests_below(path)]
        if as_json:
            click.echo(json.dumps(rows, indent=2))
            return
        for row in rows:
            what = f"savepoint {row['name']}" if row["name"] else row["kind"]
            size = size_text(row["size_bytes"])
            click.echo(f"{row['number']:>8}  {row['taken']}  {size:>9}  {what:<20}  {row['path']}")
        if not rows:
            click.echo(f"no checkpoint that is durable in {path}")

    return _reported(report)


@checkpoints.command(help="One checkpoint or savepoint: what it was taken of, and what each step holds.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def inspect(path: str, as_json: bool) -> int:
    def report() -> None:
        from sage.runners.state.restoring import manifest_at

        manifest = manifest_at(path)
        row = {**_row(manifest), "workers": manifest.workers, **manifest.description}
        if as_json:
            click.echo(json.dumps(row, indent=2))
            return
        click.echo(f"job {row['job']}, {row['kind']} {row['number']}, {row['taken']}, {size_text(row['size_bytes'])}")
        click.echo(f"taken at {row['workers']} workers, Beam {row['beam']}, Python {row['python']}")
        for step, stage in manifest.description["stages"].items():
            cells = "; ".join(f"{name}: {form}" for name, form in stage["cells"].items())
            key = f" by {stage['key']}" if stage["key"] else ""
            click.echo(f"  {step}  {stage['kind']}{key}  {cells}".rstrip())
        for sink in manifest.description["sinks"]:
            click.echo(f"  {sink}  sink with transactions")

    return _reported(report)


@checkpoints.command(help="Whether a job can go on from the checkpoint or savepoint PATH. TARGET: as for `sage run`.")
@click.argument("path")
@click.argument("target")
@click.argument("job_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- JOB OPTIONS]")
@click.option("--allow-dropped-state", is_flag=True, help="State of steps that are gone may be left behind.")
@click.option("--traceback", "full", is_flag=True, help="Show every frame of an error.")
def check(path: str, target: str, job_options: tuple[str, ...], allow_dropped_state: bool, full: bool) -> int:
    try:
        problems = _problems(path, target, job_options, allow_dropped_state)
    except BaseException as error:
        failure = explain(error)
        show(failure, error, full=full)
        return exit_code_of(error)
    for problem in problems:
        click.echo(f"  - {problem}")
    click.echo(f"{target} cannot go on from {path}" if problems else f"{target} can go on from {path}")
    return ExitCode.FAILED if problems else ExitCode.DONE


def _problems(path: str, target: str, job_options: Sequence[str], dropped: bool) -> list[str]:
    from sage.jobs.cli.capture import capture, plan_of
    from sage.runners.engine.checkpoint.identity import compatible, describe
    from sage.runners.state.restoring import manifest_at, verified

    manifest = manifest_at(path)
    parts = verified(manifest)
    plan = plan_of(capture(Target.parse(target), job_options))
    problems = compatible(manifest.description, describe(plan), dropped)
    return problems if dropped else [*problems, *_splits_not_read(plan, parts)]


def _splits_not_read(plan: Any, parts: Sequence[bytes]) -> Iterator[str]:
    """The sources that do not name all splits any more that the checkpoint has positions in."""
    from sage.runners.engine.checkpoint.identity import stage_ids
    from sage.runners.engine.operators.reading.polled import not_read, reads_splits, splits_in
    from sage.runners.state.rescaling import decode_part

    ids = stage_ids(plan)
    for stage in plan.stages:
        if not reads_splits(stage.root):
            continue
        try:
            roots = [found[ids[stage.index]].root for found in map(decode_part, parts) if ids[stage.index] in found]
            problem = not_read(stage.root.dofn.fn.source, splits_in(row for root in roots for row in root.spread))
        except (AttributeError, ImportError):
            return  # of classes that only the job's own process has; it finds out itself
        if problem is not None:
            yield f"step '{ids[stage.index]}': {problem}"


def _manifests_below(path: str) -> list[Any]:
    """What is durable below a path, the oldest first; what cannot be read is told and left out."""
    from sage.runners.state.manifests import MANIFEST, manifest_of
    from sage.runners.state.objects import objects_at

    found, objects = [], objects_at(path)
    if "://" not in objects.url and not os.path.isdir(objects.url):
        raise CheckpointError(f"there is no folder {path}: name a --checkpoint-dir, or the folder of one job in it")
    for name in objects.names():
        folder, _, file = name.rpartition("/")
        if file != MANIFEST:
            continue
        try:
            found.append(manifest_of(objects.get(name), f"{objects.url}/{folder}"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            click.echo(f"warning: {objects.url}/{name} cannot be read: {error}", err=True)
    return sorted(found, key=lambda manifest: (manifest.job, manifest.created))


def _reported(tell: Callable[[], None]) -> int:
    try:
        tell()
    except (SageError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return ExitCode.FAILED if isinstance(error, CheckpointError) else exit_code_of(error)
    return ExitCode.DONE


def _row(manifest: Any) -> dict[str, Any]:
    taken = datetime.datetime.fromtimestamp(manifest.created).astimezone()
    return {
        "job": manifest.job,
        "number": manifest.epoch,
        "kind": manifest.kind.value,
        "name": manifest.name,
        "taken": taken.isoformat(" ", "seconds"),
        "size_bytes": manifest.size,
        "path": manifest.url,
    }
