"""The exit codes of the `sage` command, and how an error maps to one."""

from __future__ import annotations

import enum

from sage.errors import ConfigError, Fault, MissingExtra, SageError, StepError, UnsupportedFeature

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(enum.IntEnum):
    """What a script that calls `sage` can tell apart."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNSUPPORTED = 3
    INTERRUPTED = 130


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code for what a job, its script or the command itself raised."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, UnsupportedFeature):
        return ExitCode.UNSUPPORTED
    if isinstance(error, ConfigError | MissingExtra):
        return ExitCode.USAGE
    # A step that finds in its setup that an option is wrong, or a checkpoint to begin from that is not there.
    if isinstance(error, SageError) and error.fault is Fault.CONFIGURATION:
        return ExitCode.USAGE
    if isinstance(error, StepError) and isinstance(error.cause, ConfigError | MissingExtra):
        return ExitCode.USAGE
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return ExitCode.DONE
        # argparse ends a script with 2 when the job's own options are wrong.
        return ExitCode.USAGE if error.code == 2 else ExitCode.FAILED
    return ExitCode.FAILED
