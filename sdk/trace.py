"""Finds the user's own line in a stack or a traceback, past the frames of Beam, SAGE and Python's own library."""

from __future__ import annotations

import linecache
import os
import sysconfig
from types import FrameType, TracebackType

from sage.errors import Location
from sage.source_line import operand_line

_HERE = os.path.dirname(os.path.abspath(__file__))
_HOUSE = os.path.dirname(_HERE)
_OURS = tuple(
    os.path.join(_HOUSE, part) + os.sep
    for part in (os.path.basename(_HERE), "runners", "transforms", "templates")
)
_COMMAND = os.path.join(_HOUSE, "jobs", "cli", "")
_MARKS = (f"{os.sep}apache_beam{os.sep}", f"{os.sep}concurrent{os.sep}futures{os.sep}")
# Compiled modules of Beam give a path relative to the package's parent.
_STANDARD = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STARTS = (*_OURS, _COMMAND, f"apache_beam{os.sep}", "<frozen ", "<sage ")


def is_framework(file: str) -> bool:
    """Whether a source file belongs to Beam, to SAGE, to Python or to the import machinery."""
    return file.startswith(_STARTS) or any(mark in file for mark in _MARKS) or is_standard(file)


def is_standard(file: str) -> bool:
    """Whether a source file belongs to Python's own library."""
    return file.startswith(_STANDARD) and not any(mark in file for mark in _INSTALLED)


def is_installed(file: str) -> bool:
    """Whether a source file belongs to a library that somebody has installed, or was compiled into one."""
    return any(mark in file for mark in _INSTALLED) or _is_compiled(file)


def _is_compiled(file: str) -> bool:
    # What Cython compiled names its source as it was called where it was built.
    return not file.startswith("<") and not (os.path.isabs(file) or os.path.exists(file))


def _location(file: str, line: int) -> Location:
    return Location(file, line, linecache.getline(file, line).strip())


def caller_location(frame: FrameType | None) -> Location | None:
    """The nearest frame of user code at or above ``frame``; None if all of it is framework code.

    What is above the `sage` command's own frames started it, and is no user's.
    """
    while frame is not None and not frame.f_code.co_filename.startswith(_COMMAND):
        if not is_framework(frame.f_code.co_filename):
            code = frame.f_code
            return _location(code.co_filename, operand_line(code, frame.f_lasti, frame.f_lineno))
        frame = frame.f_back
    return None


def raise_location(traceback: TracebackType | None) -> Location | None:
    """The innermost line of user code in a traceback; None if there is none.

    What is installed is a library that the user's code called, unless there is no other: then it is the job itself.
    """
    found = called = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not is_framework(code.co_filename) and not _is_compiled(code.co_filename):
            called = (code.co_filename, operand_line(code, traceback.tb_lasti, traceback.tb_lineno))
            found = found if is_installed(code.co_filename) else called
        traceback = traceback.tb_next
    place = found or called
    return _location(*place) if place else None
