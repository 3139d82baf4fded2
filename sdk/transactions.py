"""Sinks whose writes become visible in two phases: once for each checkpoint, and only when that is durable.

A runner that takes checkpoints drives a `TransactionalDoFn` like this, for each subtask of it::

    setup(); recover(context, prepared)       # the checkpoint's handles are committed, other leftovers aborted
    process(...) ... process(...)             # elements of epoch 1
    handle = prepare(1)                       # at the barrier: flushed, invisible; the handle goes into the checkpoint
    process(...) ...                          # elements of epoch 2, in a transaction of their own
    commit(handle)                            # the checkpoint is durable: epoch 1 becomes visible

A job without checkpoints is one epoch: it is prepared when all input has ended, and committed when every subtask has
prepared. On a runner that knows none of this, each bundle is prepared and committed by itself, so that the sink
promises what that runner promises of bundles.

Protocol: two-phase commit by an aligned barrier, as in Carbone et al., "State Management in Apache Flink", VLDB 2017.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from sage.deprecated import adopt_old_methods, old_names, warn_renamed

__all__ = ["BatchSink", "Deferred", "SinkContext", "TransactionalDoFn"]

__getattr__ = old_names(__name__, {"BulkSink": "BatchSink", "Later": "Deferred"})


@dataclass(frozen=True)
class SinkContext:
    """Which part of which sink this is.

    Attributes:
        job: the job's name. The same for a job that is resumed; so it may name transactions and temporary files.
        step: the full name of the step, without line numbers.
        subtask: which of the parallel subtasks this is, from 0.
        subtasks: how many there are (count).
        earlier: the subtasks of the run before this one that this subtask answers for. After a change of the number of
            workers that may be several, or none; on a first start it is this subtask alone.
    """

    job: str
    step: str
    subtask: int = 0
    subtasks: int = 1
    earlier: tuple[int, ...] = (0,)


class Deferred:
    """Work of a sink that runs in the background, while elements of the next epoch are processed.

    `TransactionalDoFn.prepare` may return it for a handle, and `TransactionalDoFn.commit` for the rest of its work. The
    thread that stores checkpoints runs it, so ``ask`` must be safe to call from there. If it fails, the sink's own
    thread runs it again and gets the error.

    Args:
        ask: does the work and returns the handle. What was prepared is not committed before it has returned. It may be
            called again after it failed.

    Attributes:
        failed: whether the last call of ``ask`` raised.
    """

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask: Callable[[], Any] | None = ask
        self._asking = threading.Lock()
        self._handle: Any = None
        self.failed = False

    def result(self) -> Any:
        """Returns the handle, running ``ask`` unless it has; while another thread runs it, this one waits."""
        with self._asking:
            if self._ask is not None:
                try:
                    self._handle = self._ask()
                except Exception:
                    self.failed = True
                    raise
                self.failed, self._ask = False, None
            return self._handle

    @staticmethod
    def resolve(handle: Any) -> Any:
        """Returns the result of a `Deferred`, waiting for it; anything else as it is."""
        return handle.result() if isinstance(handle, Deferred) else handle

    @staticmethod
    def of(handle: Any) -> Any:
        """Does what `resolve` does. Deprecated."""
        warn_renamed("Later.of", "Deferred.resolve")
        return Deferred.resolve(handle)

    def __getattr__(self, name: str) -> Any:
        if name == "told":
            warn_renamed("Later.told", "Deferred.result")
            return self.result
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class BatchSink(beam.DoFn):
    """A DoFn without outputs that writes any number of elements at a time. SAGE's engine calls it with whole lists."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adopt_old_methods(cls, {"take": "write_batch"})

    def write_batch(self, elements: list[Any]) -> None:
        """Writes elements, in order; the list is the sink's to keep. Their windows make no difference."""
        raise NotImplementedError(f"{type(self).__name__} must define write_batch(self, elements)")

    def process(self, element: Any) -> None:
        self.write_batch([element])


class TransactionalDoFn(beam.DoFn):
    """A sink that writes in transactions, one for each epoch and subtask.

    Subclasses define `recover`, ``process``, `prepare`, `commit`, and may define ``setup`` and ``teardown``;
    ``start_bundle`` and ``finish_bundle`` belong to this class.
    """

    _managed = False
    _bundles: Any = None

    def recover(self, context: SinkContext, prepared: Sequence[Any]) -> None:
        """Called once after ``setup`` and before the first element, in every run.

        Args:
            context: which part of the sink this is.
            prepared: the handles that the checkpoint holds for the subtasks in ``context.earlier``, oldest first. Each
                must be committed, unless it was; whatever else those subtasks left open must be aborted.

        Raises:
            DataLoss: a handle can be committed no more, as when a broker has given its transaction up.
        """
        raise NotImplementedError(f"{type(self).__name__} must define recover(self, context, prepared)")

    def prepare(self, epoch: int) -> Any:
        """All that was written since the last call is made safe, and stays invisible.

        Args:
            epoch: the number of the checkpoint; it goes up, not always by one.

        Returns:
            What `commit` needs, in another process too: a small picklable value, or a `Deferred` of one;
            None if nothing was written.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prepare(self, epoch)")

    def commit(self, handle: Any) -> Deferred | None:
        """Makes visible what was prepared. May be called again for what is visible already.

        Returns:
            `Deferred` for what of it elements need not wait for; it is done before the next `prepare`. Else None.

        Raises:
            DataLoss: it can be committed no more.
        """
        raise NotImplementedError(f"{type(self).__name__} must define commit(self, handle)")

    def manage(self) -> None:
        """Called by a runner that calls `recover`, `prepare` and `commit` itself."""
        self._managed = True

    def start_bundle(self) -> None:
        if not self._managed and self._bundles is None:
            self._bundles = itertools.count(1)
            self.recover(SinkContext(uuid.uuid4().hex, type(self).__name__), ())

    def finish_bundle(self) -> Iterable[Any] | None:
        if not self._managed:
            handle = self.prepare(next(self._bundles))
            if handle is not None:
                Deferred.resolve(self.commit(Deferred.resolve(handle)))
        return None
