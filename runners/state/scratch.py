"""Scratch folders of a worker: removed in the end, by a later job if the process is killed."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from sage.errors import ConfigError

_PREFIX = "sage-state-"


@contextmanager
def state_folder(state_dir: str | None) -> Iterator[str]:
    """A folder for files of keyed state that is removed in the end: by a later job, if this process is killed.

    Args:
        state_dir: where to make it; None for the system's temporary folder.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    directory = state_dir or tempfile.gettempdir()
    try:
        os.makedirs(directory, exist_ok=True)
        _remove_orphans(directory)
        folder, lock = _made(directory)
    except OSError as error:
        raise ConfigError(
            f"--state_dir: keyed state cannot be kept in {directory}: {error.strerror or error}"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _made(directory: str) -> tuple[str, IO[bytes]]:
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=directory)
        lock = _locked(folder)
        # Who removes orphans may have been there before the lock was.
        if lock is not None and os.path.exists(lock.name):
            return folder, lock


def _locked(folder: str) -> IO[bytes] | None:
    """An open file that says that the folder is in use; None if somebody else says so, or it is gone."""
    try:
        # It stays open as long as the folder is used.
        file = open(os.path.join(folder, "in-use"), "ab")  # noqa: SIM115
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _remove_orphans(directory: str) -> None:
    """Removes the folders of processes that were killed: the lock on a file goes with its process."""
    for folder in glob.glob(os.path.join(glob.escape(directory), f"{_PREFIX}*")):
        if os.path.exists(os.path.join(folder, "in-use")) and (lock := _locked(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()
