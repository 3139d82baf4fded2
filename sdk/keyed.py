"""Functions that keep state and set timers for each key, in the manner of Flink, with Beam's meaning.

Nothing here imports Beam until a job runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sage import runtime
from sage.errors import SageError
from sage.functions import Function

if TYPE_CHECKING:
    from apache_beam.transforms.window import BoundedWindow
    from apache_beam.utils.timestamp import Timestamp

__all__ = ["KeyedCoProcessFunction", "KeyedContext", "KeyedProcessFunction", "NoTimerMethod"]

In = TypeVar("In")
In2 = TypeVar("In2")
Out = TypeVar("Out")


class NoTimerMethod(SageError, TypeError):
    """A timer was set by a function whose class has no method for it to call."""


class KeyedContext:
    """What surrounds one element or one timer of one key. It is good until the call (or its generator) ends.

    Timers belong to the key and the window. Any number may be set; setting one twice for the same instant is one
    timer. Instants are seconds since the Unix epoch (numbers) or Beam ``Timestamp`` objects.

    Attributes:
        key: the key being processed.
        timestamp: the element's event time, or the instant that the timer was set for (a Beam ``Timestamp``).
        window: the window being processed.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self.key: Any = None
        self.timestamp: Timestamp = None
        self.window: BoundedWindow = None
        self._event_timer: Any = None
        self._processing_timer: Any = None

    def enter(self, key: Any, timestamp: Timestamp, window: BoundedWindow, timers: tuple[Any, Any]) -> None:
        """Move to another element or timer; called by the step that runs the function."""
        self.key, self.timestamp, self.window = key, timestamp, window
        self._event_timer, self._processing_timer = timers

    def register_event_time_timer(self, at: Timestamp | float) -> None:
        """Call ``on_timer`` once the watermark has passed ``at``."""
        instant = _timestamp(at)
        self._event().set(instant, dynamic_timer_tag=str(instant.micros))

    def delete_event_time_timer(self, at: Timestamp | float) -> None:
        """Take back the timer set for ``at``; nothing happens where there is none."""
        self._event().clear(dynamic_timer_tag=str(_timestamp(at).micros))

    def register_processing_time_timer(self, at: Timestamp | float) -> None:
        """Call ``on_processing_timer`` once processing time has passed ``at``; see `processing_time`."""
        instant = _timestamp(at)
        self._processing().set(instant, dynamic_timer_tag=str(instant.micros))

    def delete_processing_time_timer(self, at: Timestamp | float) -> None:
        """Take back the timer set for ``at``; nothing happens where there is none."""
        self._processing().clear(dynamic_timer_tag=str(_timestamp(at).micros))

    def processing_time(self) -> float:
        """Seconds since the Unix epoch by the runner's clock; differs between a run and its repetition."""
        return runtime.now()

    def _event(self) -> Any:
        return self._timer(self._event_timer, "on_timer", "an event-time timer")

    def _processing(self) -> Any:
        return self._timer(self._processing_timer, "on_processing_timer", "a processing-time timer")

    def _timer(self, timer: Any, method: str, kind: str) -> Any:
        if timer is None:
            raise NoTimerMethod(f"{self._step}: {kind} is set, but the class defines no {method}(self, timestamp, ctx)")
        return timer


def _timestamp(at: Timestamp | float) -> Timestamp:
    from apache_beam.utils.timestamp import Timestamp

    return Timestamp.of(at)


class _Timed(Function, Generic[Out]):
    def on_timer(self, timestamp: Timestamp, ctx: KeyedContext) -> Iterable[Out] | None:
        """Called when the watermark has passed the event-time timer set for ``timestamp``.

        The outputs carry the event time ``timestamp``.
        """
        raise NotImplementedError

    def on_processing_timer(self, timestamp: Timestamp, ctx: KeyedContext) -> Iterable[Out] | None:
        """Called when processing time has passed the timer set for ``timestamp``."""
        raise NotImplementedError


class KeyedProcessFunction(_Timed[Out], Generic[In, Out]):
    """One call for each element of a keyed stream, with state and timers of the element's key.

    States are class attributes (`sage.ValueState` and its kin). Define `on_timer` to set event-time timers and
    `on_processing_timer` to set processing-time timers. The elements of one key come one after another, never at
    the same time; between keys nothing is promised. Compiles into one stateful Beam DoFn::

        class Quiet(sage.KeyedProcessFunction):
            last = sage.ValueState("last", float)

            def process_element(self, value, ctx):
                self.last.update(float(ctx.timestamp))
                ctx.register_event_time_timer(ctx.timestamp + 60)

            def on_timer(self, timestamp, ctx):
                if timestamp == self.last.value() + 60:
                    yield ctx.key, "quiet for a minute"
    """

    def process_element(self, value: In, ctx: KeyedContext) -> Iterable[Out] | None:
        """The outputs for one element; ``value`` is without its key, which is ``ctx.key``."""
        raise NotImplementedError(f"{type(self).__name__} must define process_element(self, value, ctx)")


class KeyedCoProcessFunction(_Timed[Out], Generic[In, In2, Out]):
    """As `KeyedProcessFunction`, over two connected keyed streams that share the key's state and timers."""

    def process_element1(self, value: In, ctx: KeyedContext) -> Iterable[Out] | None:
        """The outputs for an element of the first stream."""
        raise NotImplementedError(f"{type(self).__name__} must define process_element1(self, value, ctx)")

    def process_element2(self, value: In2, ctx: KeyedContext) -> Iterable[Out] | None:
        """The outputs for an element of the second stream."""
        raise NotImplementedError(f"{type(self).__name__} must define process_element2(self, value, ctx)")
