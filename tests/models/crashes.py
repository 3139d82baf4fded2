"""Runs a function in a process that is killed before a given line of the code under test.

Every line is a place to crash: between two writes, before a rename, after a commit. A sweep that kills before the first
line, the second and so on until the function ends has tried them all.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any


def run_and_crash(work: Callable[[], Any], files: tuple[str, ...], before: int) -> bool:
    """Runs ``run_worker`` in a child process that dies by SIGKILL before so many lines of ``files`` have run.

    Args:
        work: what to run.
        files: the endings of the files whose lines count.
        before: which line it dies before, from 0.

    Returns:
        Whether it died; if not, it has run to its end.

    Raises:
        RuntimeError: the work raised; its traceback is in the message.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(work, files, before, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"the work failed (status {status}):\n{said}")
    return False


def _run(work: Callable[[], Any], files: tuple[str, ...], before: int, writing: int) -> None:
    left = before

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename.endswith(files) else None

    try:
        sys.settrace(on_call)
        work()
        sys.settrace(None)
    except BaseException:
        sys.settrace(None)
        os.write(writing, traceback.format_exc().encode()[-60_000:])
        os._exit(1)
    os._exit(0)
