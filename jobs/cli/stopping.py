"""Ctrl-C while jobs run: once stops a job that has no end with a last checkpoint, twice ends it where it stands."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import click

from sage.errors import SageError
from sage.handle import JobHandle, JobState

__all__ = ["patient_interrupts"]


@contextlib.contextmanager
def patient_interrupts(handles: Sequence[JobHandle]) -> Iterator[None]:
    """While the block is open, the first SIGINT or SIGTERM stops endless jobs with their state kept.

    The job ends as done, with its last output committed, and the same command goes on from there. A second signal, or
    the first one while no endless job runs, interrupts as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping: list[JobHandle] = []

    def asked(number: int, frame: Any) -> None:
        endless = [handle for handle in handles if _endless(handle) and handle not in stopping]
        if not endless:
            raise KeyboardInterrupt
        stopping.extend(endless)
        names = ", ".join(handle.name for handle in endless)
        click.echo(f"stopping {names} with a last checkpoint; again ends it at once", err=True)
        for handle in endless:
            threading.Thread(target=_stop, args=(handle,), name="sage-stop", daemon=True).start()

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _endless(handle: JobHandle) -> bool:
    return not JobState(str(handle.state)).terminal and bool(getattr(handle, "endless", False))


def _stop(handle: Any) -> None:
    try:
        path = handle.stop()
    except SageError as error:
        # A job that has ended meanwhile is what was asked for.
        if not JobState(str(handle.state)).terminal:
            click.echo(f"{handle.name} cannot be stopped with a checkpoint: {error}; Ctrl-C ends it at once", err=True)
        return
    kept = f"its state is in {path}: the same command goes on from there" if path else "it keeps no checkpoints"
    click.echo(f"stopped {handle.name}; {kept}", err=True)
