"""What SAGE logs while a job runs, as the command shows it: a line for people, without the name of a module."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from sage.jobs.cli.say import say

__all__ = ["showing_notes"]

_BEGINNINGS = "sage.runners.driver.attempts"
_STEP = "sage.step."  # what a user's function logs


@contextlib.contextmanager
def showing_notes() -> Iterator[None]:
    """Shows SAGE's warnings, and whether a job goes on from a checkpoint, on stderr while the block is open.

    A script that sets up logging of its own gets them there instead.
    """
    ours, beginnings = logging.getLogger("sage"), logging.getLogger(_BEGINNINGS)
    handler, level = _Notes(), beginnings.level
    ours.addHandler(handler)
    ours.propagate = False  # the handler passes on what is for others
    beginnings.setLevel(logging.INFO)
    try:
        yield
    finally:
        beginnings.setLevel(level)
        ours.propagate = True
        ours.removeHandler(handler)


class _Notes(logging.Handler):
    """State: the handlers that were there before the script."""

    def __init__(self) -> None:
        super().__init__()
        self._before = list(logging.root.handlers)

    def emit(self, record: logging.LogRecord) -> None:
        others = [handler for handler in logging.root.handlers if not _is_default(handler)]
        for handler in others:
            if record.levelno >= handler.level:
                handler.handle(record)
        if all(handler in self._before for handler in others):
            kind = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
            step = f"{record.name.removeprefix(_STEP)}: " if record.name.startswith(_STEP) else ""
            say(f"{kind}{step}{self.format(record)}")


def _is_default(handler: logging.Handler) -> bool:
    """Whether Python has made a handler for want of another: the first warning does, and Beam's import warns."""
    made = handler.formatter
    return type(handler) is logging.StreamHandler and made is not None and made._fmt == logging.BASIC_FORMAT
