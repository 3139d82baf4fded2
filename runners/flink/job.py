"""The driver of a job on Flink: builds its operators, runs them on a mini-cluster, and gathers what they report."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from pyflink.common import Configuration, Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from sage.errors import WorkerLost
from sage.handle import StepProgress
from sage.runners.deployment.worker_spec import WorkerSpec
from sage.runners.driver.worker_reports import WorkerReports
from sage.runners.flink.operator import LevelFunction
from sage.runners.flink.part import Record
from sage.runners.worker.progress import join_halves, merge_progress
from sage.runners.worker.worker_output import OutputReplayer, levels

_MAX_PARALLELISM = 128
_SETTINGS = {
    "python.execution-mode": "process",
    # A record is a block, so few make a bundle worth its round trip; blocks wait for one no longer than this (ms).
    "python.fn-execution.bundle.size": "64",
    "python.fn-execution.bundle.time": "100",
    "pipeline.object-reuse": "true",
}


class FlinkJob(WorkerReports):
    """The operators of one job: one for each level, with a subtask for each worker.

    State: what each level last reported at each worker.

    Args:
        orders: what each worker is asked to do.
        levels: how many operators the job has (count).
    """

    def __init__(self, orders: Sequence[WorkerSpec], levels: int) -> None:
        super().__init__(len(orders) * levels)
        self._orders = [pickle.dumps(order) for order in orders]
        self._levels = levels
        self._done: set[int] = set()
        self._results: Any = None
        self._cancelled = False
        self._replayer = OutputReplayer()

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, all workers together, level by level."""
        workers = len(self._orders)
        levels = range(0, workers * self._levels, workers)
        return join_halves(
            step for first in levels for step in merge_progress(self._progress[first : first + workers])
        )

    def on_output(self, kind: str, content: Any) -> None:
        self._replayer.replay(kind, content)

    def cancel(self) -> None:
        """Asks the job to stop; Flink cancels it."""
        self._cancelled = True
        results = self._results
        if results is not None:
            with contextlib.suppress(Exception):  # it ends at this moment
                results.close()

    def run(self) -> None:
        """Runs the job to its end.

        Raises:
            StepError: a step failed at some worker; the job is cancelled.
            WorkerLost: a Python or Java process of the job died.
        """
        with contextlib.closing(self._records()) as records:
            for record in records:
                self._hear(record)
        if not self._cancelled and len(self._done) < len(self._orders) * self._levels:
            raise WorkerLost("the job ended on Flink before all its parts had reported; run it again")

    def _records(self) -> Generator[Record, None, None]:
        """What the job tells its driver; the job is cancelled when nobody listens any more."""
        try:
            with self._stream().execute_and_collect("sage") as self._results:
                if not self._cancelled:
                    yield from self._results
        except Exception as error:
            if not self._cancelled:
                raise WorkerLost(f"Flink gave the job up: {_root_cause(error)}") from error

    def _hear(self, record: Record) -> None:
        level, data = record.content
        part = level * len(self._orders) + record.worker
        if self.receive(part, data):
            self._done.add(part)

    def _stream(self) -> Any:
        workers = len(self._orders)
        with _worker_processes():
            environment = StreamExecutionEnvironment.get_execution_environment(_configuration(workers))
        environment.set_python_executable(sys.executable)
        environment.set_parallelism(workers)
        environment.set_max_parallelism(_MAX_PARALLELISM)
        keys = _keys(workers)
        stream: Any = environment.from_collection(list(range(workers)), type_info=Types.INT())
        for level in range(self._levels):
            keyed = stream.key_by(_KeyOf(keys), key_type=Types.INT())
            stream = keyed.process(LevelFunction(self._orders, level, levels()), output_type=Types.PICKLED_BYTE_ARRAY())
            stream.name(f"level {level}").set_parallelism(workers)
        return stream


class _KeyOf:
    """The key of a record, which is the worker's it is for. Flink calls it in its Python processes."""

    def __init__(self, keys: list[int]) -> None:
        self._keys = keys

    def __call__(self, value: Record | int) -> int:
        return self._keys[value if isinstance(value, int) else value.worker]


def _configuration(workers: int) -> Configuration:
    configuration = Configuration()
    for key, value in {**_SETTINGS, "parallelism.default": str(workers)}.items():
        configuration.set_string(key, value)
    return configuration


def _keys(workers: int) -> list[int]:
    """For each worker a key that Flink hashes to the subtask of that number.

    Flink hashes a Python key as a row of one field, and spreads what comes of it over key groups.
    """
    jvm = get_gateway().jvm
    subtask_of = jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment.assignKeyToParallelOperator
    found: dict[int, int] = {}
    key = 0
    while len(found) < workers:
        row = jvm.org.apache.flink.types.Row(1)
        row.setField(0, key)
        found.setdefault(subtask_of(row, _MAX_PARALLELISM, workers), key)
        key += 1
    return [found[worker] for worker in range(workers)]


@contextlib.contextmanager
def _worker_processes() -> Iterator[None]:
    """Has PyFlink start worker processes. In a mini-cluster it would run all Python in threads of this process, which
    share one interpreter lock, and take over this process's log handlers and environment."""
    name = "_python_worker_execution_mode"
    before = os.environ.get(name)
    os.environ[name] = before or "process"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _root_cause(error: Exception) -> str:
    """The first line of the innermost cause in a Java stack trace."""
    lines = str(error).splitlines()
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines or ["no reason given"])[-1]
