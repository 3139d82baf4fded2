"""The `sage` command: run a job, draw it, look after the machine it runs on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` without the program name when None).

    Returns:
        The exit code, one of `ExitCode`. Never raises: what goes wrong is shown on stderr.
    """
    try:
        from sage.jobs.cli.app import main as run

        return run(argv)
    except KeyboardInterrupt:  # while this command was still being imported
        sys.stderr.write("interrupted\n")
        return 130
