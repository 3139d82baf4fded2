"""The result of a job: Beam's, and the handle by which it is watched."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, cast

from apache_beam.metrics.cells import DistributionData, DistributionResult, GaugeData, GaugeResult
from apache_beam.metrics.execution import MetricResult
from apache_beam.metrics.metric import MetricResults
from apache_beam.runners.runner import PipelineResult, PipelineState

from sage.errors import CheckpointError
from sage.handle import Checkpointed, ExecutionPath, StepProgress, Vitals
from sage.runners.deployment.worker_spec import Cancelled
from sage.runners.driver.checkpoint_driver import CompletedCheckpoint
from sage.runners.engine.checkpoint.protocol import Ask, Requested
from sage.runners.engine.core.blocks import MIN_MICROS
from sage.runners.worker.interrupts import deferred_signals
from sage.runners.worker.metrics import KINDS
from sage.runners.worker.progress import Pulse


def _result_of(value: Any) -> Any:
    """What a user reads of a metric's cumulative data; Beam 2.61 has no common method for it."""
    if hasattr(value, "get_result"):
        return value.get_result()
    if isinstance(value, DistributionData):
        return DistributionResult(value)
    if isinstance(value, GaugeData):
        return GaugeResult(value)
    return getattr(value, "string_set", value)


class JobMetrics(MetricResults):
    """The user metrics of a job; attempted and committed values are one, for nothing is run twice."""

    def __init__(self, cumulative: dict[str, dict[Any, Any]]) -> None:
        self._cumulative = cumulative

    def query(self, filter: Any = None) -> dict[str, list[MetricResult]]:
        return {
            kind: [
                MetricResult(key, result, result)
                for key, value in self._cumulative.get(kind, {}).items()
                if self.matches(filter, key)
                for result in (_result_of(value),)
            ]
            for kind in KINDS
        }


class RunningJob(Protocol):
    """What runs a job: in this process, or in workers."""

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""

    def metrics(self) -> dict[str, Any]:
        """The cumulative data of every metric cell, by kind and then by key."""

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name."""

    def reasons(self) -> Mapping[str, str]:
        """Why steps run the general way, by full step name."""

    def cancel(self) -> None:
        """Asks the job to stop."""

    def run(self) -> None:
        """Runs the job to its end, in the calling thread."""


class ControllableJob(RunningJob, Protocol):
    """A running job that takes checkpoints."""

    def ask(self, request: Requested) -> Future[Any]:
        """Asks for a savepoint, a stop or a drain; the answer comes by the future."""

    def pulse(self) -> Pulse:
        """How far the job has come."""

    @property
    def last_checkpoint(self) -> CompletedCheckpoint | None:
        """The last checkpoint that is durable."""

    @property
    def restarts(self) -> int:
        """How often the job began again (count)."""

    @property
    def durable(self) -> bool:
        """Whether the job keeps checkpoints."""


class JobResult(PipelineResult):
    """A job of a host: Beam's result, and SAGE's job handle."""

    def __init__(self, name: str, running: RunningJob) -> None:
        super().__init__(PipelineState.STARTING)
        self.name = name
        self._running = running
        self._cancelled = False
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._raise_soon: Callable[[BaseException], None] | None = None

    def __repr__(self) -> str:
        where = f", stopped at {self.stopped_at}" if self.stopped_at else ""
        return f"<{type(self).__name__} of {self.name!r}: {self._state}{where}>"

    def run(self) -> None:
        """Runs the job to its end.

        Raises:
            StepError: a step of the user's pipeline raised.
            WorkerLost: a worker process died.
        """
        self._state = PipelineState.RUNNING
        defers = getattr(self._running, "defers_signals", False)
        try:
            with deferred_signals(self.name, self._cancel_running) if defers else contextlib.nullcontext() as soon:
                self._raise_soon = soon
                self._running.run()
        except Cancelled:
            pass  # as it was asked to
        except (KeyboardInterrupt, SystemExit):  # a signal's: a step that exits has failed
            self._state = PipelineState.CANCELLED
            raise
        except BaseException:
            self._state = PipelineState.FAILED
            raise
        finally:
            self._raise_soon = None
        self._state = PipelineState.CANCELLED if self._cancelled else PipelineState.DONE

    def start(self) -> None:
        """Runs the job in a thread of its own. The process lives as long as the job, unless the job is cancelled."""
        self._state = PipelineState.RUNNING
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run_alone,), name=f"job {self.name}")
        self._thread.start()

    def _run_alone(self) -> None:
        try:
            self.run()
        except BaseException as error:  # raised again where somebody waits for the job
            self._error = error
        finally:
            self._over.set()

    def wait_until_finish(self, duration: int | None = None) -> str:
        if self._thread is not None:
            try:
                # Not by joining the thread: where that is interrupted, Python takes the thread for one that has ended.
                self._over.wait(None if duration is None else duration / 1_000)
            except KeyboardInterrupt:
                self.cancel()
                raise
            if self._error is not None:
                raise self._error
        return str(self._state)

    def cancel(self) -> str:
        if not PipelineState.is_terminal(self._state):
            self._cancel_running()
            if (raise_soon := self._raise_soon) is not None:
                raise_soon(Cancelled())
        return str(self._state)

    def _cancel_running(self) -> None:
        self._cancelled = True
        self._running.cancel()

    def metrics(self) -> JobMetrics:
        return JobMetrics(self._running.metrics())

    def monitoring_metrics(self) -> JobMetrics:
        """The user's metrics, under the name by which Beam's FnApiRunner gives its own as well.

        SAGE's figures of each step are those of `progress`.
        """
        return self.metrics()

    def progress(self) -> Sequence[StepProgress]:
        """One entry for each step, in the order of the plan."""
        return self._running.progress()

    def paths(self) -> Mapping[str, ExecutionPath]:
        """Which way each step runs, by full step name."""
        return self._running.paths()

    def reasons(self) -> Mapping[str, str]:
        """Why each step that runs the general way is not compiled, by full step name."""
        return self._running.reasons()

    # Steering.

    @property
    def endless(self) -> bool:
        """Whether the job has no end of its own."""
        return self._thread is not None

    @property
    def durable(self) -> bool:
        """Whether the job keeps checkpoints, so that it can be stopped with its state."""
        return bool(getattr(self._running, "durable", False))

    @property
    def stopped_at(self) -> str | None:
        """The path of the checkpoint with which the job was stopped; None if it was not, or is not yet."""
        taken: CompletedCheckpoint | None = getattr(self._running, "last_checkpoint", None)
        return taken.path if taken is not None and taken.stopped else None

    def savepoint(self, name: str = "") -> str:
        """Takes a savepoint, while the job goes on; gives its path.

        Raises:
            CheckpointError: the job takes no checkpoints, has ended, or could not take this one.
        """
        return self._ask(Ask.SAVEPOINT, name)

    def stop(self, name: str = "") -> str:
        """Takes a savepoint and ends the job with it; gives its path. A job that begins from it goes on from here.

        Raises:
            CheckpointError: as for `savepoint`.
        """
        return self._ask(Ask.STOP, name)

    def drain(self) -> None:
        """Ends the input: sources are read no more, every window fires, and the job ends when all is written.

        Raises:
            CheckpointError: the host cannot drain, or the job has ended.
        """
        self._ask(Ask.DRAIN, "")

    def _ask(self, ask: Ask, name: str) -> str:
        if not hasattr(self._running, "ask"):
            raise CheckpointError("this runner takes no checkpoints yet: run the job with --runner=local")
        running = cast(ControllableJob, self._running)
        taken = running.ask(Requested(ask, name)).result()
        return "" if taken is None else str(taken.path)

    def vitals(self) -> Vitals | None:
        """How the job is doing; None where the host does not tell."""
        if not hasattr(self._running, "last_checkpoint"):
            return None
        running = cast(ControllableJob, self._running)
        pulse, taken = running.pulse(), running.last_checkpoint
        return Vitals(
            watermark_ms=None if pulse.watermark <= MIN_MICROS else pulse.watermark / 1_000,
            lag=pulse.lag,
            read=pulse.read,
            checkpoint=None if taken is None else checkpoint_info(taken),
            restarts=running.restarts,
            late_dropped=sum(step.late_dropped for step in running.progress()),
        )


def checkpoint_info(taken: CompletedCheckpoint) -> Checkpointed:
    """A checkpoint, as people read it."""
    return Checkpointed(taken.epoch, taken.path, taken.size, taken.state, taken.began / 1_000, taken.ended / 1_000)
