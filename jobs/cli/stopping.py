"""Ctrl-C while jobs run: once stops a job that has no end with a last checkpoint, twice ends it where it stands."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from sage.errors import SageError
from sage.handle import JobHandle, JobState
from sage.jobs.cli.say import say

__all__ = ["LONGEST_END_S", "delayed_interrupts", "is_running", "patient_interrupts"]

LONGEST_END_S = 3.0
"""How long a job that is interrupted may take to end (seconds): a step in this process can last."""


@contextlib.contextmanager
def patient_interrupts(handles: Sequence[JobHandle], end: Callable[[], None]) -> Iterator[None]:
    """While the block is open, the first SIGINT or SIGTERM stops endless jobs that keep checkpoints.

    The job ends as done, with its last output committed, and the same command goes on from there; a job that cannot
    take a last checkpoint is cancelled. A second signal, or the first one while no such job runs, interrupts: a
    job in this thread ends when its user's function returns. One more, or 3 s, end the process.

    Args:
        handles: the jobs; others may be added.
        end: ends the process at once. Called from any thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping: list[JobHandle] = []
    interrupted: list[JobHandle] = []
    helpers: list[threading.Thread] = []

    def asked(number: int, frame: FrameType | None) -> None:
        running = [handle for handle in handles if _can_stop(handle) and handle not in stopping]
        if running:
            stopping.extend(running)
            helper = threading.Thread(target=_stop_all, args=(running,), name="sage-stop", daemon=True)
            helper.start()
            helpers.append(helper)
            return
        if any(is_running(handle) for handle in interrupted):
            end()
        interrupted[:] = [handle for handle in handles if is_running(handle)]
        if interrupted:
            timer = threading.Timer(LONGEST_END_S, _end_overdue, (list(interrupted), end))
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for helper in helpers:
            if not any(is_running(handle) for handle in stopping):
                helper.join(LONGEST_END_S)  # it says where the state is


@contextlib.contextmanager
def delayed_interrupts(end: Callable[[], None]) -> Iterator[None]:
    """Keeps the first SIGINT until the block ends; the second ends the process.

    Libraries that are being imported take an exception from a signal's handler for a failure of their own.

    Raises:
        KeyboardInterrupt: when the block has ended, if there was a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def asked(number: int, frame: FrameType | None) -> None:
        if came:
            end()
        came.append(number)

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def is_running(handle: JobHandle) -> bool:
    """Whether a job has not ended."""
    return not JobState(str(handle.state)).terminal


def _can_stop(handle: JobHandle) -> bool:
    kept = getattr(handle, "endless", False) and getattr(handle, "durable", False)
    return bool(kept) and is_running(handle)


def _end_overdue(handles: Sequence[JobHandle], end: Callable[[], None]) -> None:
    if any(is_running(handle) for handle in handles):
        end()


def _stop_all(handles: Sequence[JobHandle]) -> None:
    # Not by the handler itself, which may have come up while the main thread writes to the same stream.
    names = ", ".join(handle.name for handle in handles)
    say(f"stopping {names} with a last checkpoint; again ends it at once")
    parts = [threading.Thread(target=_stop, args=(handle,), name="sage-stop", daemon=True) for handle in handles]
    for part in parts:
        part.start()
    for part in parts:
        part.join()


def _stop(handle: Any) -> None:
    try:
        path = handle.stop()
    except SageError as error:
        # A job that has ended meanwhile is what was asked for.
        if is_running(handle):
            say(f"{handle.name} is stopped without a last checkpoint: {error}")
            handle.cancel()
        return
    say(f"stopped {handle.name}; its state is in {path}: the same command goes on from there")
