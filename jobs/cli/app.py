"""The command group, and the one place where an exception becomes an exit code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import click

import sage
from sage.jobs.cli.chaos import chaos
from sage.jobs.cli.checkpoints import checkpoints
from sage.jobs.cli.doctor import doctor
from sage.jobs.cli.exits import ExitCode
from sage.jobs.cli.graph import graph
from sage.jobs.cli.run import run
from sage.jobs.cli.steering import drain, jobs, savepoint, stop
from sage.jobs.cli.version import version

__all__ = ["main"]

_HELP = """Run Apache Beam jobs on SAGE: embedded in this process, on Ray or on Flink.

\b
  sage run job.py                        run a script that builds a beam.Pipeline()
  sage run job.py --workers 4            the same in four worker processes
  sage run mypkg.jobs:daily -- --day 7   call a function, give the job its own options
  sage run pipeline.yaml --json          run Beam YAML, print one JSON document at the end
  sage jobs                              what runs on this machine; sage savepoint, stop and drain steer it
  sage checkpoints check PATH job.py     can the job, as it is now, go on from there?
  sage chaos job.py --seeds 1000         crash it in a simulation: is anything lost, or twice?
  sage graph job.py --format svg -o job.svg
  sage doctor                            what this machine has, what is missing

Exit codes: 0 done, 1 the job failed, 2 wrong usage, 3 the runner lacks a feature that the job needs,
130 interrupted. `sage COMMAND --help` tells more.
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sage.__version__, prog_name="sage", message="%(prog)s %(version)s")
def _sage() -> None:
    pass


for _command in (run, jobs, savepoint, stop, drain, checkpoints, chaos, graph, doctor, version):
    _sage.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` without the program name when None).

    Returns:
        The exit code, one of `ExitCode`. Never raises: what goes wrong is shown on stderr.
    """
    with _quiet_beam_import():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> ExitCode:
    try:
        # What a command may do with the process depends on whether it is the command's own.
        code = _sage.main(args=argv, prog_name="sage", standalone_mode=False, obj=argv is None)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except click.NoSuchOption as error:
        error.show()
        if error.ctx is not None and error.ctx.command in (run, graph):
            click.echo(
                f"Options of the job itself go after `--`, as in: "
                f"{error.ctx.command_path} job.py -- {error.option_name}",
                err=True,
            )
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    # click turns Ctrl-C into Abort, but not while it still parses.
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    return ExitCode(code or 0)


@contextlib.contextmanager
def _quiet_beam_import() -> Iterator[None]:
    """Leave out one line: Beam without its BigQuery client says so at each import, whether a job needs it or not."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("apitools not found")

    root = logging.getLogger()
    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)
