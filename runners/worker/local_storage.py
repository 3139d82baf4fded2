"""Local storage of one worker: where groupings spill, and where keyed state lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sage.runners.engine.core.keyed_store import KeyedStore
from sage.runners.engine.memory.manager import SpillStore
from sage.runners.engine.operators.base.context import JobOptions
from sage.runners.state.rocks import RocksBackend
from sage.runners.state.scratch import state_folder
from sage.runners.state.spill import FileSpillStore

KeyedStores = Callable[[str], KeyedStore]
"""Makes the store of a step, by the step's name."""


@contextmanager
def spill_store(memory_bytes: int | None, directory: str | None) -> Iterator[SpillStore | None]:
    """Opens the store for what does not fit in memory; None where there is no limit.

    Args:
        memory_bytes: what groupings may hold in memory (bytes).
        directory: where to put files; None for the system's temporary folder.
    """
    if memory_bytes is None:
        yield None
        return
    store = FileSpillStore(directory)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def keyed_stores(options: JobOptions) -> Iterator[KeyedStores | None]:
    """Opens the state backend that the options name; None for state in memory.

    Raises:
        ConfigError: the folder for the files cannot be made or written to.
        MissingExtra: the backend's package is not installed.
    """
    if options.state_backend == "memory":
        yield None
        return
    with state_folder(options.state_dir) as folder:
        stores = RocksBackend(folder)
        try:
            yield stores.store
        finally:
            stores.close()
