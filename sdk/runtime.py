"""What a user's function learns about where it runs, and the seam through which a runner tells it.

Beam says nothing to a DoFn about its place among its twins. A runner that knows sets it once in each worker,
in the context (thread) that runs the user's code::

    from sage import runtime
    runtime.set_subtask(index=2, parallelism=4)

Where no runner sets anything, a function sees itself as subtask 0 of 1 and reads the system clock.
Nothing here imports Beam until a metric is asked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apache_beam.metrics.metricbase import Counter, Distribution, Gauge

__all__ = [
    "MetricGroup",
    "RuntimeContext",
    "Subtask",
    "now",
    "set_clock",
    "set_subtask",
    "set_watermark",
    "simulates_time",
    "subtask",
    "watermark",
]


@dataclass(frozen=True)
class Subtask:
    """The place of one worker among the workers that run the same steps.

    Attributes:
        index: from 0 to parallelism - 1.
        parallelism: how many workers run the same steps (count).
    """

    index: int = 0
    parallelism: int = 1


_subtask: ContextVar[Subtask | None] = ContextVar("sage_subtask", default=None)
_clock: ContextVar[Callable[[], float]] = ContextVar("sage_clock", default=time.time)
_watermark: ContextVar[int | None] = ContextVar("sage_watermark", default=None)
_ONLY = Subtask()


def subtask() -> Subtask:
    """Where the calling code runs; subtask 0 of 1 where no runner said otherwise.

    >>> subtask()
    Subtask(index=0, parallelism=1)
    """
    return _subtask.get() or _ONLY


def set_subtask(index: int, parallelism: int) -> None:
    """Called by a runner's worker before it sets up the user's functions.

    The value belongs to the current context: a thread that a worker starts later does not inherit it.

    Raises:
        ValueError: not 0 <= index < parallelism.
    """
    if not 0 <= index < parallelism:
        raise ValueError(f"subtask index {index} is not in 0..{parallelism - 1}")
    _subtask.set(Subtask(index, parallelism))


def now() -> float:
    """Processing time: seconds since the Unix epoch, by the runner's clock if it has one of its own."""
    return _clock.get()()


def set_clock(clock: Callable[[], float]) -> None:
    """Called by a runner whose processing time is not the system's (a simulator, a TestStream); seconds."""
    _clock.set(clock)


def simulates_time() -> bool:
    """Returns whether the runner has a clock of its own, as under a simulator or with a TestStream."""
    return _clock.get() is not time.time


def watermark() -> int | None:
    """The watermark behind the running step, as the steps after it know it; None where the runner does not say.

    Microseconds since the Unix epoch. An element of an earlier event time that is put out now comes late to them.
    """
    return _watermark.get()


def set_watermark(micros: int | None) -> None:
    """Called by a runner's worker whenever another step runs, or the watermark behind the running one moves on."""
    _watermark.set(micros)


class MetricGroup:
    """The metrics of one function: Beam metrics under the function's own namespace.

    An update counts towards the bundle it is made in. Updates made in ``open`` and ``close`` are outside of any
    bundle, and Beam drops them.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def counter(self, name: str) -> Counter:
        """A count that goes up (``inc(n)``) and down (``dec(n)``)."""
        from apache_beam.metrics import Metrics

        return Metrics.counter(self.namespace, name)

    def distribution(self, name: str) -> Distribution:
        """Minimum, maximum, sum and count of integers (``update(value)``)."""
        from apache_beam.metrics import Metrics

        return Metrics.distribution(self.namespace, name)

    def gauge(self, name: str) -> Gauge:
        """The latest of the integers it was given (``set(value)``)."""
        from apache_beam.metrics import Metrics

        return Metrics.gauge(self.namespace, name)


class RuntimeContext:
    """What ``open(context)`` receives: the function's surroundings for the life of one instance.

    Attributes:
        step: the label of the step that runs the function, as ``map(Parse)``.
        logger: a standard logger named after the step.
        metrics: counters, distributions and gauges; their namespace is the function's qualified name.
    """

    def __init__(self, step: str, namespace: str, states: dict[str, Any] | None = None) -> None:
        self.step = step
        self.logger = logging.getLogger(f"sage.step.{step}")
        self.metrics = MetricGroup(namespace)
        self._states = states or {}

    @property
    def parallel_index(self) -> int:
        """Which of the parallel workers this is: 0 to `parallelism` - 1."""
        return subtask().index

    @property
    def parallelism(self) -> int:
        """How many workers run this step (count)."""
        return subtask().parallelism

    def state(self, name: str) -> Any:
        """The handle of a state that the function's class declares; usable while an element or timer is processed.

        Raises:
            KeyError: the class declares no state of this name.
        """
        try:
            return self._states[name]
        except KeyError:
            declared = ", ".join(sorted(self._states)) or "none"
            raise KeyError(f"{self.step} declares no state {name!r} (declared: {declared})") from None
