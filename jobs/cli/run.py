"""`sage run`: run a job, show how it goes, say what went wrong."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import click

from sage.handle import JobHandle, JobState, observe_jobs
from sage.jobs.cli.control import serving
from sage.jobs.cli.exits import ExitCode, exit_code_of
from sage.jobs.cli.failure import Failure, explain, show
from sage.jobs.cli.notes import showing_notes
from sage.jobs.cli.own_options import own_options_allowed
from sage.jobs.cli.pipelines import only_on
from sage.jobs.cli.progress import LiveDisplay, merge_steps
from sage.jobs.cli.report import document, stdout_kept_clean
from sage.jobs.cli.runners import SageOptionsCommand, job_defaults, prepare_workers, resolve_runner
from sage.jobs.cli.stopping import LONGEST_END_S, delayed_interrupts, is_running, patient_interrupts
from sage.jobs.cli.target import Target

__all__ = ["run"]

_DEFAULT_RUNNER = "local"

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

A pipeline that names no runner gets the one that --runner asks for, else the local one. Where its code names one,
that one runs it, and a --runner that asks for another is refused. Of other options the job's code has the last word.
A script that runs no pipeline and asks for no __name__ has its main or run called, as a module has.

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
        found = [getattr(handle, "vitals", lambda: None)() for handle in failed]
        return max((vitals.restarts for vitals in found if vitals is not None), default=0) + 1


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
    default=None,
    metavar="NAME",
    help="local, ray or flink; or a Beam runner by its name or its class's dotted name. A job whose code names "
    "another is refused. Default: the runner that the code names, else local.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, and nothing else on stdout.")
@click.option("--traceback", "full", is_flag=True, help="Show every frame of an error.")
@click.option(
    "--explain", "only_explain", is_flag=True, help="Print which way each step would run, and why; nothing runs."
)
def run(
    target: str,
    job_options: tuple[str, ...],
    runner: str | None,
    as_json: bool,
    full: bool,
    only_explain: bool,
    **sage_options: object,
) -> int:
    given = {name: value for name, value in sage_options.items() if value is not None}
    if only_explain:
        return _explain(target, job_options, runner or _DEFAULT_RUNNER, given, as_json=as_json, full=full)
    outcome = _Outcome()
    with stdout_kept_clean() if as_json else contextlib.nullcontext(click.echo) as write:

        def report(failure: Failure | None, code: int) -> None:
            if as_json:
                named = runner or _DEFAULT_RUNNER
                found = document(outcome.handles, failure, exit_code=code, runner=named, wall_ms=outcome.wall_ms)
                write(json.dumps(found, indent=2, default=str))

        ending = _Ending(outcome, report, ours=bool(click.get_current_context().obj))
        _run(outcome, target, job_options, runner, given, live=not as_json and sys.stderr.isatty(), ending=ending)
        failure = explain(outcome.error) if outcome.error is not None else None
        if outcome.error is not None and failure is not None:
            _tell(outcome, outcome.error, failure, full=full)
        else:
            _tell_surprises(outcome, given)
        _tell_late(outcome.handles)
        report(failure, outcome.exit_code)
        if outcome.exit_code == ExitCode.INTERRUPTED:
            ending.leave()
    return outcome.exit_code


@dataclass
class _Ending:
    """How the process ends where a job does not.

    Attributes:
        ours: whether the process is this command's own. If not, it is left alone.
        display: the live display, while there is one.
    """

    outcome: _Outcome
    report: Callable[[Failure | None, int], None]
    ours: bool
    display: LiveDisplay | None = None

    def at_once(self) -> None:
        """Ends the process, with what is known reported. Called from any thread, so also within a user's function."""
        if not self.ours:
            return
        interrupted = KeyboardInterrupt()
        with contextlib.suppress(Exception):  # whatever is broken, the process ends
            if self.display is not None:
                self.display.close()
            _tell(self.outcome, interrupted, explain(interrupted), full=False)
            self.report(explain(interrupted), ExitCode.INTERRUPTED)
        os._exit(ExitCode.INTERRUPTED)

    def leave(self) -> None:
        """Ends the process where a cancelled job still runs: Python would wait for the thread of it."""
        if self.ours and any(is_running(handle) for handle in self.outcome.handles):
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(ExitCode.INTERRUPTED)


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


def _run(
    outcome: _Outcome,
    target: str,
    job_options: Sequence[str],
    runner: str | None,
    given: Mapping[str, object],
    *,
    live: bool,
    ending: _Ending,
) -> None:
    started = time.monotonic()
    try:
        job = Target.parse(target)
        prepare_workers(runner or _DEFAULT_RUNNER, given)
        resolved = resolve_runner(runner or _DEFAULT_RUNNER)
        with contextlib.ExitStack() as stack:
            with delayed_interrupts(ending.at_once):
                stack.enter_context(job_defaults(resolved, given))
            if runner is not None:
                stack.enter_context(only_on(runner, resolved))
            stack.enter_context(_watching(outcome.handles, ending, live=live))
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


@contextlib.contextmanager
def _watching(handles: list[JobHandle], ending: _Ending, *, live: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if live:
            ending.display = stack.enter_context(LiveDisplay())
            stack.enter_context(observe_jobs(ending.display.watch))
        stack.enter_context(observe_jobs(handles.append))
        stack.enter_context(showing_notes())
        stack.enter_context(own_options_allowed())
        stack.enter_context(serving(handles))
        stack.enter_context(patient_interrupts(handles, ending.at_once))
        yield


def _cancel(handles: Sequence[JobHandle]) -> None:
    """Cancels what runs, and waits for it to end: what is told then is how it ended."""
    running = [handle for handle in handles if is_running(handle)]
    for handle in running:
        handle.cancel()
    for handle in running:
        with contextlib.suppress(Exception):  # the interrupt is what is told
            handle.wait_until_finish(int(LONGEST_END_S * 1_000))


def _tell(outcome: _Outcome, error: BaseException, failure: Failure, *, full: bool) -> None:
    if not isinstance(error, KeyboardInterrupt):
        show(failure, error, full=full, attempts=outcome.attempts)
        return
    stopped = [handle.name for handle in outcome.handles if handle.state != JobState.DONE]
    names = f": stopped {', '.join(stopped)}" if stopped else ""
    click.echo(f"interrupted{names}", err=True)


def _tell_late(handles: Sequence[JobHandle]) -> None:
    """Tells of the steps that have dropped elements as late how many there were in all."""
    for handle in handles:
        for step in merge_steps(handle.progress()):
            if step.late_dropped:
                count = f"{step.late_dropped:,} late element{'s' if step.late_dropped > 1 else ''}"
                click.echo(f"note: step '{step.name}' has dropped {count}", err=True)


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
