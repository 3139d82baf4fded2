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
    """While the block is open, the first SIGINT or SIGTERM stops endless jobs that keep checkpoints.

    The job ends as done, with its last output committed, and the same command goes on from there; a job that cannot
    take a last checkpoint is cancelled. A second signal, or the first one while no such job runs, interrupts as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping: list[JobHandle] = []

    def asked(number: int, frame: Any) -> None:
        running = [handle for handle in handles if _can_stop(handle) and handle not in stopping]
        if not running:
            raise KeyboardInterrupt
        stopping.extend(running)
        names = ", ".join(handle.name for handle in running)
        click.echo(f"stopping {names} with a last checkpoint; again ends it at once", err=True)
        for handle in running:
            threading.Thread(target=_stop, args=(handle,), name="sage-stop", daemon=True).start()

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _can_stop(handle: JobHandle) -> bool:
    kept = getattr(handle, "endless", False) and getattr(handle, "durable", False)
    return bool(kept) and not JobState(str(handle.state)).terminal


def _stop(handle: Any) -> None:
    try:
        path = handle.stop()
    except SageError as error:
        # A job that has ended meanwhile is what was asked for.
        if not JobState(str(handle.state)).terminal:
            click.echo(f"{handle.name} is stopped without a last checkpoint: {error}", err=True)
            handle.cancel()
        return
    click.echo(f"stopped {handle.name}; its state is in {path}: the same command goes on from there", err=True)
