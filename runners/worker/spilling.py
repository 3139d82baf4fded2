"""The memory and the spill store of one job at one worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sage.runners.engine.memory.manager import SpillStore
from sage.runners.state.spill import FileSpillStore


@contextmanager
def spill_store(memory_bytes: int | None, directory: str | None) -> Iterator[SpillStore | None]:
    """A place for what does not fit in memory, while the job runs; None where there is no limit.

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
