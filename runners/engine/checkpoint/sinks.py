"""Sinks in two phases: the operator that drives a `TransactionalDoFn` by the job's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sage.runners.engine import spec
from sage.runners.engine.checkpoint.identity import step_id
from sage.runners.engine.failures import naming
from sage.runners.engine.ops import ParDoOp
from sage.transactions import Later, SinkContext, TransactionalDoFn


def is_transactional(step: spec.Step) -> bool:
    """Whether a step is a sink in two phases."""
    return isinstance(step, spec.ParDo) and isinstance(step.dofn.fn, TransactionalDoFn)


class TransactionalOp(ParDoOp):
    """``id`` is what its handles go by in a checkpoint.

    State: the handles that were prepared and are not committed, oldest first.

    More than one waits when a checkpoint was given up: what it prepared is committed with the next that is durable.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fn: TransactionalDoFn = self.step.dofn.fn
        self._fn.manage()
        self.id = step_id(self.step.name)
        self._prepared: list[Any] = []

    def recover(self, earlier: tuple[int, ...], prepared: Sequence[Any]) -> None:
        """Commits what a checkpoint holds, and aborts what else an earlier run left open."""
        job = self.context.job
        context = SinkContext(job.options.job, self.id, job.worker, job.workers, earlier)
        self.guarded(self._fn.recover, context, tuple(prepared))

    def prepare(self, epoch: int) -> list[Any]:
        """Prepares what was written; gives every handle that waits to be committed."""
        for waiting in self._prepared:
            if isinstance(waiting, Later) and waiting.failed:
                waiting.told()
        handle = self.guarded(self._fn.prepare, epoch)
        if handle is not None:
            self._prepared.append(Later(partial(self._told, handle)) if isinstance(handle, Later) else handle)
        return list(self._prepared)

    def _told(self, handle: Later) -> Any:
        """Called by the thread that stores the checkpoint: unlike `guarded`, this touches nothing of the task's."""
        with naming(self.step.name, self.context):
            return handle.told()

    def commit(self) -> None:
        """Commits all that `prepare` gave: the checkpoint that holds it is durable."""
        while self._prepared:
            self.guarded(self._fn.commit, Later.of(self._prepared[0]))
            del self._prepared[0]
