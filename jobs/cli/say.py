"""Lines for the person at the terminal."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["say"]


def say(text: str) -> None:
    """Writes a line to stderr as it is at this moment: while the live display runs, that is above the display.

    `click.echo` would find the terminal behind the display, which then draws over the line.
    """
    with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
        if sys.stderr is not None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
