"""The one PyFlink function: it hands records to a part of the job and gives Flink what comes out."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from pyflink.datastream import KeyedProcessFunction

from sage.errors import SageError
from sage.runners.flink.part import Part, Record
from sage.runners.hosting.nesting import refuse_jobs


class LevelFunction(KeyedProcessFunction):  # type: ignore[misc, unused-ignore]
    """One level of a job; Flink makes a subtask of it for each worker.

    Args:
        orders: the order of each worker, pickled.
        level: which level.
    """

    def __init__(self, orders: list[bytes], level: int) -> None:
        self._orders = orders
        self._level = level
        self._worker = 0
        self._part: Part | None = None

    def open(self, runtime_context: Any) -> None:
        refuse_jobs()
        self._worker = runtime_context.get_index_of_this_subtask()
        self._part = Part(pickle.loads(self._orders[self._worker]), self._level)

    def process_element(self, value: Record | int, ctx: Any) -> Iterator[Record]:
        assert self._part is not None, "Flink opens a function before it calls it"
        worker = value if isinstance(value, int) else value.worker
        if worker != self._worker:
            raise SageError(f"a record of worker {worker} came to worker {self._worker}: Flink hashes otherwise")
        yield from self._part.take(None if isinstance(value, int) else value)

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
