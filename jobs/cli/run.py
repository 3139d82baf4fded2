"""`sage run`: run a job, show how it goes, say what went wrong."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import click

from sage.handle import JobHandle, JobState, observe_jobs
from sage.jobs.cli.control import serving
from sage.jobs.cli.exits import ExitCode, exit_code_of
from sage.jobs.cli.failure import Failure, explain, show
from sage.jobs.cli.notes import showing_notes
from sage.jobs.cli.progress import LiveDisplay
from sage.jobs.cli.report import document, stdout_kept_clean
from sage.jobs.cli.runners import SageOptionsCommand, job_defaults, prepare_workers, resolve_runner
from sage.jobs.cli.stopping import patient_interrupts
from sage.jobs.cli.target import Target

__all__ = ["run"]

_LONGEST_END_MS = 3_000  # a worker that does not end by itself is killed sooner; a step in this process can last

_HELP = """Run a job: TARGET is a script, a module, a function or a Beam YAML pipeline.

\b
  sage run job.py                       the script runs as __main__, as `python job.py` would run it
  sage run job.py -- --input 'in/*.txt' what follows `--` is the job's own: its sys.argv
  sage run mypkg.jobs                   calls main or run of the module
  sage run mypkg.jobs:daily             calls the function `daily`
  sage run job.py:daily                 the same, from a file
  sage run pipeline.yaml                Beam YAML (needs the [yaml] extra)
  sage run job.py --workers 4 --memory-limit 2GB
  sage run job.py --json > result.json  one JSON document: state, steps, metrics, error
  sage run job.py --explain             which way each step would run, and why; nothing runs

A pipeline that names no runner gets the one that --runner asks for; one that its code names itself is left
alone. The options of SAGE are given in the same way: the job's code has the last word.

A job that has no end is stopped with Ctrl-C: once takes a last checkpoint, and the same command goes on from it;
twice ends it at once. `sage jobs`, `savepoint`, `stop` and `drain` work from another terminal.

A function is called by what its first parameter is called: `argv` gets the job's options as a list, `options`
gets them as PipelineOptions, `pipeline` gets a pipeline to add steps to, which is then run. Without
parameters it is just called. A pipeline or an environment that it returns is run too.
"""


@dataclass
class _Outcome:
    """What became of a run. ``handles`` fills as jobs start."""

    handles: list[JobHandle] = field(default_factory=list)
    error: BaseException | None = None
    wall_ms: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return exit_code_of(self.error)
        states = {str(handle.state) for handle in self.handles}
        if states - {JobState.DONE, JobState.CANCELLED}:
            return ExitCode.FAILED
        return ExitCode.INTERRUPTED if JobState.CANCELLED in states else ExitCode.DONE

    @property
    def attempts(self) -> int:
        """How often the job that failed was tried (count)."""
        failed = [handle for handle in self.handles if handle.state == JobState.FAILED]
        vitals = [told for handle in failed if (told := getattr(handle, "vitals", lambda: None)()) is not None]
        return max((told.restarts for told in vitals), default=0) + 1


@click.command(
    cls=SageOptionsCommand,
    help=_HELP,
    short_help="Run a job and watch it.",
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)
@click.argument("target")
@click.argument("job_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- JOB OPTIONS]")
@click.option(
    "--runner",
    default="local",
    show_default=True,
    metavar="NAME",
    help="local, ray or flink; or a Beam runner by its name or its class's dotted name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, and nothing else on stdout.")
@click.option("--traceback", "full", is_flag=True, help="Show every frame of an error.")
@click.option(
    "--explain", "only_explain", is_flag=True, help="Print which way each step would run, and why; nothing runs."
)
def run(
    target: str,
    job_options: tuple[str, ...],
    runner: str,
    as_json: bool,
    full: bool,
    only_explain: bool,
    **sage_options: object,
) -> int:
    given = {name: value for name, value in sage_options.items() if value is not None}
    if only_explain:
        return _explain(target, job_options, runner, given, as_json=as_json, full=full)
    with stdout_kept_clean() if as_json else contextlib.nullcontext():
        outcome = _run(target, job_options, runner, given, live=not as_json and sys.stderr.isatty())
        failure = explain(outcome.error) if outcome.error is not None else None
        if outcome.error is not None and failure is not None:
            _tell(outcome, outcome.error, failure, full=full)
        else:
            _tell_surprises(outcome, given)
    code = outcome.exit_code
    if as_json:
        report = document(outcome.handles, failure, exit_code=code, runner=runner, wall_ms=outcome.wall_ms)
        click.echo(json.dumps(report, indent=2, default=str))
    return code


def _explain(
    target: str, job_options: Sequence[str], runner: str, given: Mapping[str, object], *, as_json: bool, full: bool
) -> int:
    try:
        from sage.jobs.cli.explaining import explain_target, explanation_document, explanation_text

        with stdout_kept_clean():
            steps = explain_target(target, job_options, runner, given)
    except (Exception, SystemExit) as error:
        show(explain(error), error, full=full)
        return exit_code_of(error)
    click.echo(json.dumps(explanation_document(steps), indent=2) if as_json else explanation_text(steps))
    return ExitCode.DONE


def _run(target: str, job_options: Sequence[str], runner: str, given: Mapping[str, object], *, live: bool) -> _Outcome:
    outcome = _Outcome()
    started = time.monotonic()
    try:
        job = Target.parse(target)
        prepare_workers(runner, given)
        with job_defaults(resolve_runner(runner), given), _watching(outcome.handles, live=live):
            started = time.monotonic()
            try:
                with job.launched(job_options):
                    # A script may start a job and leave it running; the command ends when its jobs have.
                    for handle in outcome.handles:
                        handle.wait_until_finish()
            except KeyboardInterrupt:
                _cancel(outcome.handles)
                raise
    # SystemExit and KeyboardInterrupt are outcomes as well, and the report is owed for them too.
    except BaseException as error:
        outcome.error = error
    outcome.wall_ms = (time.monotonic() - started) * 1000
    return outcome


@contextlib.contextmanager
def _watching(handles: list[JobHandle], *, live: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if live:
            stack.enter_context(observe_jobs(stack.enter_context(LiveDisplay()).watch))
        stack.enter_context(observe_jobs(handles.append))
        stack.enter_context(showing_notes())
        stack.enter_context(serving(handles))
        stack.enter_context(patient_interrupts(handles))
        yield


def _cancel(handles: Sequence[JobHandle]) -> None:
    """Cancels what runs, and waits for it to end: what is told then is how it ended."""
    running = [handle for handle in handles if not JobState(str(handle.state)).terminal]
    for handle in running:
        handle.cancel()
    for handle in running:
        with contextlib.suppress(Exception):  # the interrupt is what is told
            handle.wait_until_finish(_LONGEST_END_MS)


def _tell(outcome: _Outcome, error: BaseException, failure: Failure, *, full: bool) -> None:
    if not isinstance(error, KeyboardInterrupt):
        show(failure, error, full=full, attempts=outcome.attempts)
        return
    stopped = [handle.name for handle in outcome.handles if handle.state != JobState.DONE]
    names = f": stopped {', '.join(stopped)}" if stopped else ""
    click.echo(f"interrupted{names}", err=True)


def _tell_surprises(outcome: _Outcome, given: Mapping[str, object]) -> None:
    for handle in outcome.handles:
        if handle.state == JobState.CANCELLED:
            click.echo(f"stopped {handle.name}", err=True)
        elif handle.state != JobState.DONE:
            click.echo(f"error: job {handle.name} ended as {handle.state}, and its code went on", err=True)
    if not outcome.handles and given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        click.echo(
            f"note: no job ran on a SAGE runner (the code names another, or starts none): {options} had no effect",
            err=True,
        )
