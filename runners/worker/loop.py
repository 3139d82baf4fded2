"""The loop of a worker, one turn at a time: every host and the simulator run this one, and only wait differently."""

from __future__ import annotations

from dataclasses import dataclass

from sage.runners.worker.assembly import WorkerRuntime


@dataclass(frozen=True)
class Worked:
    """A piece of work was done; there may be more."""


@dataclass(frozen=True)
class Idle:
    """There is nothing to do until a message comes, or until ``wakeup``.

    Attributes:
        wakeup: the processing time (microseconds since the epoch) at which there is work again; None if time alone
            brings none.
    """

    wakeup: int | None


@dataclass(frozen=True)
class Over:
    """The worker has done its part."""


Turn = Worked | Idle | Over

WORKED, OVER = Worked(), Over()


def turn(runtime: WorkerRuntime) -> Turn:
    """Takes messages that have come, obeys the driver, and does one piece of work.

    A worker with a checkpointer is over when the driver says so: its last checkpoint has to be committed. One without
    is over when every stage has seen the end of its input.

    Raises:
        StepError: a step failed.
    """
    flow, checkpointer = runtime.flow, runtime.checkpointer
    flow.exchange.receive_pending()
    if checkpointer is None:
        if flow.step():
            return WORKED
        return OVER if flow.finished else Idle(flow.next_wakeup())
    checkpointer.run_pending()
    if checkpointer.over:
        return OVER
    if flow.step():
        return WORKED
    checkpointer.report_idle()
    return Idle(flow.next_wakeup())
