"""The keyed step of a pipeline at some workers, as a host would run it: barriers, a storage, a crash, other workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import WindowFn
from apache_beam.utils.timestamp import Timestamp

from sage.runners.engine.checkpoint.snapshot import RootState, StageState
from sage.runners.engine.core.blocks import MIN_MICROS, Block
from sage.runners.engine.core.key_groups import KEY_GROUPS, worker_of
from sage.runners.engine.core.keyed_store import KeyedStore
from sage.runners.engine.core.keys import KeyIds, key_coder
from sage.runners.engine.operators.base.context import JobContext, JobOptions, VirtualClock
from sage.runners.engine.runtime.task import Task
from sage.runners.plan import plan_pipeline

Stores = Callable[[str], KeyedStore]


class KeyedWorkers:
    """A step at a number of workers, with the checkpoints it gave.

    Args:
        step: a ParDo with state.
        window: the window function of its input.
        workers: how many there are at first.
        stores: makes a factory of stores for each worker; None for state in memory.
        folder: where copies of files go.
        path: the execution path.
        checkpoints: whether the job takes any.
    """

    def __init__(
        self,
        step: beam.PTransform,
        window: Any,
        workers: int = 1,
        stores: Callable[[], Stores] | None = None,
        folder: Path | None = None,
        path: str = "auto",
        checkpoints: bool = True,
    ) -> None:
        pipeline = beam.Pipeline()
        # The step's name is to be the same in each pipeline that a checkpoint goes through.
        pairs = pipeline | beam.Create([(0, 0)]).with_output_types(tuple[Any, Any]) | beam.WindowInto(window)
        pairs | "keyed" >> step | beam.Reshuffle()
        self._plan = plan_pipeline(pipeline.to_runner_api(), 2)
        self._stage = next(stage for stage in self._plan.stages if getattr(stage.root, "stateful", False))
        collection = self._plan.collections[self._stage.root.inputs[0]]
        self._window = collection.windowing.windowfn
        self._ids = KeyIds(key_coder(collection.coder))
        self._options = JobOptions(execution_path=path, checkpoints=checkpoints)
        self._stores = stores
        self._folder = folder
        self.clock = VirtualClock()
        self.outputs: list[Any] = []
        self.watermark = MIN_MICROS
        self._chains: list[list[bytes]] = []
        self._files: list[list[str]] = []
        self._copies: dict[str, bytes] = {}
        self._numbers = itertools.count()
        self._begin(workers)

    @property
    def workers(self) -> int:
        return len(self.tasks)

    def _begin(self, workers: int) -> None:
        def emit(_collection: Any, block: Block) -> None:
            self.outputs.extend(block.values)

        self.jobs = [
            JobContext(
                self.clock, self._options, worker=worker, workers=workers,
                keyed=self._stores() if self._stores is not None else None,
            )
            for worker in range(workers)
        ]  # fmt: skip
        self.tasks = [Task(self._stage, self._plan, job, emit) for job in self.jobs]
        for task in self.tasks:
            task.open()

    def process(self, elements: list[tuple[Any, float]]) -> list[Any]:
        """What comes out for pairs with their event times (seconds)."""
        self.outputs = outputs = []
        for task, rows in zip(self.tasks, self._spread(elements), strict=True):
            if rows:
                stamps = [Timestamp(stamp) for _, stamp in rows]
                windows = [tuple(self._window.assign(WindowFn.AssignContext(stamp))) for stamp in stamps]
                task.receive(0, Block([pair for pair, _ in rows], stamps, windows))
                task.end_bundle()
        self._wake()
        return outputs

    def _spread(self, elements: list[tuple[Any, float]]) -> list[list[tuple[Any, float]]]:
        rows: list[list[Any]] = [[] for _ in self.tasks]
        for pair, stamp in elements:
            rows[self.owner(pair[0], len(rows))].append((pair, stamp))
        return rows

    def owner(self, key: Any, workers: int) -> int:
        """The worker that has a key."""
        return worker_of(self._ids.group(key, KEY_GROUPS), workers)

    def advance(self, seconds: float) -> list[Any]:
        """What comes out when the watermark moves on."""
        self.outputs = outputs = []
        self.watermark = max(self.watermark, Timestamp(seconds).micros)
        for task in self.tasks:
            task.advance(0, self.watermark)
        return outputs

    def at(self, seconds: float) -> list[Any]:
        """What comes out when the clock moves on."""
        self.outputs = outputs = []
        self.clock.micros = Timestamp(seconds).micros
        self._wake()
        return outputs

    def _wake(self) -> None:
        for task in self.tasks:
            wakeup = task.root.wakeup()
            if wakeup is not None and wakeup <= self.clock.micros:
                task.fire()

    def checkpoint(self, whole: bool = False) -> None:
        """All workers give a snapshot, which is kept as a storage would."""
        chains, self._files = [], []
        for index, task in enumerate(self.tasks):
            before = self._chains[index] if len(self._chains) == self.workers else []
            root = task.snapshot(1, whole).root
            added = [] if root.keyed is None else [root.keyed]
            chains.append(added if root.whole else [*before, *added])
            self._files.append([self._copied(name, Path(path)) for name, path in root.files.items()])
        self._chains = chains
        self._kept = self.watermark, self.clock.micros

    def _copied(self, name: str, path: Path) -> str:
        data = path.read_bytes()
        assert self._copies.setdefault(name, data) == data, f"{name} changed"
        return name

    def crash(self, workers: int) -> None:
        """All workers are gone; others, or as many, go on from the last checkpoint."""
        before, chains = len(self._chains), self._chains
        self.close()
        self.watermark, self.clock.micros = self._kept
        self._begin(workers)
        for worker, task in enumerate(self.tasks):
            if workers == before:
                state = RootState(keyed=[chains[worker]], files=[self._fetched(worker)])
            else:

                def mine(group: int, worker: int = worker) -> bool:
                    return worker_of(group, workers) == worker

                fetched = [self._fetched(old) for old in range(before)]
                state = RootState(keyed=chains, mine=mine, files=fetched)
            task.restore(StageState(self.watermark, state))

    def _fetched(self, old: int) -> dict[str, str]:
        """Copies of an old worker's files that may be used up."""
        files = {}
        for name in self._files[old]:
            assert self._folder is not None
            path = self._folder / f"fetched-{next(self._numbers)}"
            path.write_bytes(self._copies[name])
            files[name] = str(path)
        return files

    def close(self) -> None:
        """Tear-down of all workers."""
        for task in self.tasks:
            task.close()
        if self._folder is not None:
            for path in self._folder.glob("fetched-*"):
                path.unlink()
