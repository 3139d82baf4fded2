"""The one PyFlink function: it hands records to a part of the job and gives Flink what comes out."""

from __future__ import annotations

import pickle
import queue
from collections.abc import Iterator, Mapping
from typing import Any

from pyflink.datastream import KeyedProcessFunction

from sage.errors import SageError
from sage.runners.deployment.nesting import refuse_jobs
from sage.runners.flink.part import DRIVER, Part, Record
from sage.runners.worker.worker_output import OutputForwarder


class _Output:
    """What user code in this process says; whichever function is called next sends it. All threads may speak."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._forwarder: OutputForwarder | None = None

    def take(self, levels: Mapping[str, int]) -> None:
        """From now on this process speaks through the driver."""
        if self._forwarder is None:
            self._forwarder = OutputForwarder(
                lambda kind, content: self._waiting.put(pickle.dumps(("output", kind, content)))
            )
            self._forwarder.install(levels)

    def drain(self) -> Iterator[bytes]:
        """What was said since the last call."""
        if self._forwarder is not None:
            self._forwarder.flush()
        while not self._waiting.empty():
            yield self._waiting.get()


_output = _Output()


class LevelFunction(KeyedProcessFunction):  # type: ignore[misc, unused-ignore]
    """One level of a job; Flink makes a subtask of it for each worker.

    Args:
        orders: the order of each worker, pickled.
        level: which level.
        levels: the levels of the driver's loggers, by name.
    """

    def __init__(self, orders: list[bytes], level: int, levels: dict[str, int]) -> None:
        self._orders = orders
        self._level = level
        self._levels = levels
        self._worker = 0
        self._part: Part | None = None

    def open(self, runtime_context: Any) -> None:
        refuse_jobs()
        _output.take(self._levels)
        self._worker = runtime_context.get_index_of_this_subtask()
        self._part = Part(pickle.loads(self._orders[self._worker]), self._level)

    def process_element(self, value: Record | int, ctx: Any) -> Iterator[Record]:
        assert self._part is not None, "Flink opens a function before it calls it"
        worker = value if isinstance(value, int) else value.worker
        if worker != self._worker:
            raise SageError(f"a record of worker {worker} came to worker {self._worker}: Flink hashes otherwise")
        for record in self._part.take(None if isinstance(value, int) else value):
            yield from self._forwarded()  # ahead of the report that the part is done, behind which nobody listens
            yield record
        yield from self._forwarded()

    def _forwarded(self) -> Iterator[Record]:
        """What user code in this process has printed, logged and warned of meanwhile, as reports for the driver."""
        return (Record(self._worker, DRIVER, (self._level, data)) for data in _output.drain())

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
