"""Where the keyed state of one job at one worker lives."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sage.runners.engine.keyed.store import KeyedStore
from sage.runners.state.rocks import RocksBackend


@contextmanager
def keyed_stores(backend: str, directory: str | None) -> Iterator[Callable[[str], KeyedStore] | None]:
    """What makes the store of a step by its name, while the job runs; None for state in memory.

    Args:
        backend: ``memory`` or ``rocksdb``.
        directory: the folder for its files; None for the system's temporary folder.

    Raises:
        MissingExtra: the backend's package is not installed.
    """
    if backend == "memory":
        yield None
        return
    if directory is not None:
        os.makedirs(directory, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="sage-state-", dir=directory)
    try:
        stores = RocksBackend(folder)
        try:
            yield stores.store
        finally:
            stores.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
