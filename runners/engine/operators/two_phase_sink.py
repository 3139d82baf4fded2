"""Sinks in two phases: the operator that drives a `TransactionalDoFn` by the job's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sage.runners.engine.checkpoint.identity import step_id
from sage.runners.engine.core import spec
from sage.runners.engine.operators.base.failures import naming
from sage.runners.engine.operators.base.operator import ParDoOp
from sage.transactions import Deferred, SinkContext, TransactionalDoFn


def is_transactional(step: spec.Step) -> bool:
    """Whether a step is a sink in two phases."""
    return isinstance(step, spec.ParDo) and isinstance(step.dofn.fn, TransactionalDoFn)


class TransactionalOp(ParDoOp):
    """``id`` is what its handles go by in a checkpoint.

    State: the handles that were prepared and are not committed, oldest first; commits that are not done.

    More than one waits when a checkpoint was given up: what it prepared is committed with the next that is durable.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fn: TransactionalDoFn = self.step.dofn.fn
        self._fn.manage()
        self.id = step_id(self.step.name)
        self._prepared: list[Any] = []
        self._commits: list[Deferred] = []

    def recover(self, earlier: tuple[int, ...], prepared: Sequence[Any]) -> None:
        """Commits what a checkpoint holds, and aborts what else an earlier run left open."""
        job = self.context.job
        context = SinkContext(job.options.job, self.id, job.worker, job.workers, earlier)
        self.guarded(self._fn.recover, context, tuple(prepared))

    def prepare(self, epoch: int) -> list[Any]:
        """Prepares what was written; gives every handle that waits to be committed."""
        for commit in self._commits:
            commit.result()
        self._commits.clear()
        for waiting in self._prepared:
            if isinstance(waiting, Deferred) and waiting.failed:
                waiting.result()
        handle = self.guarded(self._fn.prepare, epoch)
        if handle is not None:
            self._prepared.append(self._named(handle) if isinstance(handle, Deferred) else handle)
        return list(self._prepared)

    def _named(self, later: Deferred) -> Deferred:
        """For the thread that stores the checkpoint: unlike `guarded`, this touches nothing of the task's."""

        def result() -> Any:
            with naming(self.step.name, self.context):
                return later.result()

        return Deferred(result)

    def commit(self) -> list[Deferred]:
        """Commits all that `prepare` gave: the checkpoint that holds it is durable. Gives what of it may wait."""
        while self._prepared:
            rest = self.guarded(self._fn.commit, Deferred.resolve(self._prepared[0]))
            if isinstance(rest, Deferred):
                self._commits.append(self._named(rest))
            del self._prepared[0]
        return list(self._commits)
