"""A worker, assembled: storage, stages, exchange and checkpointer, the same on every host."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType

from sage.runners.deployment.recovery import Write
from sage.runners.engine.checkpoint.protocol import Fact
from sage.runners.engine.checkpoint.snapshot import StageState
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.base.context import Clock, JobContext, JobOptions
from sage.runners.engine.runtime.dataflow import Dataflow
from sage.runners.engine.runtime.exchange import Exchange
from sage.runners.worker.checkpointer import WorkerCheckpointer
from sage.runners.worker.local_storage import keyed_stores, spill_store
from sage.runners.worker.text_lines import fast_read
from sage.runtime import set_subtask


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is made of.

    Attributes:
        plan: the job; its functions were never used.
        options: how the job is to run, with this worker's share of the memory.
        clock: processing time.
        worker: which worker this is, from 0.
        workers: how many there are (count).
        spill_dir: the folder for what spills; None for the system's temporary folder.
        stages: the indices of the stages that run here; None for all.
    """

    plan: Plan
    options: JobOptions
    clock: Clock
    worker: int = 0
    workers: int = 1
    spill_dir: str | None = None
    stages: Collection[int] | None = None


@dataclass(frozen=True)
class Checkpointing:
    """How a worker takes part in checkpoints.

    Attributes:
        post: sends a fact to the coordinator; called from any thread.
        write: stores the snapshots of an epoch, in a thread of its own; None where there is no place for them.
        executor: runs ``write`` and deferred commits; None for a thread of the worker's own.
    """

    post: Callable[[Fact], None]
    write: Write | None
    executor: Executor | None = None


class WorkerRuntime:
    """One worker of a job, for the time that it is entered as a context.

    Entering opens the storage and builds the stages; `restore` sets them up, then `sage.runners.worker.loop.turn` runs
    them. Leaving tears all of it down in the reverse order. After a failure the tear-down's own errors are dropped:
    the failure that ended the worker is the one to report.

    State: the stages and their storage.

    Args:
        setup: what to run.
        exchange: the way to the other workers; None where there are none.
        checkpointing: None where the host takes no checkpoints and drives no two-phase sinks.

    Attributes:
        job: what the engine was handed.
        flow: the stages.
        checkpointer: the worker's side of checkpoints, if there are any.
    """

    job: JobContext
    flow: Dataflow
    checkpointer: WorkerCheckpointer | None = None

    def __init__(
        self,
        setup: WorkerSetup,
        exchange: Exchange | None = None,
        checkpointing: Checkpointing | None = None,
    ) -> None:
        self._setup = setup
        self._exchange = exchange
        self._checkpointing = checkpointing
        self._storage = ExitStack()

    def __enter__(self) -> WorkerRuntime:
        setup, options = self._setup, self._setup.options
        try:
            spill = self._storage.enter_context(spill_store(options.memory_bytes, setup.spill_dir))
            keyed = self._storage.enter_context(keyed_stores(options))
            self.job = JobContext(setup.clock, options, spill, fast_read, setup.worker, setup.workers, keyed)
            with self.entered():
                self.flow = Dataflow(setup.plan, self.job, self._exchange, setup.stages)
            if self._checkpointing is not None:
                how = self._checkpointing
                self.checkpointer = WorkerCheckpointer(self.flow, setup.worker, how.write, how.post, how.executor)
        except BaseException:
            self._storage.close()
            raise
        return self

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Makes the calling thread this worker's: user metrics find their step, and functions their subtask.

        A host that calls from several threads, or runs several workers in one, enters for each call. The subtask is
        set in the caller's context (`contextvars`), and not taken back.
        """
        set_subtask(self._setup.worker, self._setup.workers)
        previous = self.job.tracker.install()
        try:
            yield
        finally:
            self.job.tracker.restore(previous)

    def restore(self, states: Mapping[int, StageState] | None) -> None:
        """Sets up every stage, from what a checkpoint holds of it; None to begin anew."""
        self.flow.open(states)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._storage:
            try:
                if self.checkpointer is not None:
                    self.checkpointer.close()
            finally:
                with self.entered():
                    self._close(failed=error is not None)

    def _close(self, failed: bool) -> None:
        try:
            self.flow.close()
        except Exception:
            if not failed:
                raise
