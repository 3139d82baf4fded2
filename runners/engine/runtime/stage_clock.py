"""Which of a worker's stages is running, and how long each has run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sage.runners.engine.core.blocks import MAX_MICROS
from sage.runners.engine.runtime.task import Task
from sage.runtime import set_watermark, watermark


class StageClock:
    """Counts each stage's own time, without that of the stages that run inside it.

    State: the running stage; when it will have run for as long as elements may wait (microseconds); how long others ran
    inside it (microseconds).

    Args:
        now: the processing time (microseconds).
        patience: how long elements may wait (microseconds).

    Attributes:
        running: the index of the running stage; -1 if none runs.
    """

    def __init__(self, now: Callable[[], int], patience: int) -> None:
        self._now = now
        self._patience = patience
        self._nested_micros = 0
        self._turn_deadline = 0
        self.running = -1

    def own_micros(self) -> int:
        """The time (microseconds), without what ran inside the running stage."""
        return self._now() - self._nested_micros

    @contextmanager
    def entered(self, task: Task) -> Iterator[None]:
        """The task runs: it takes nothing else meanwhile, and its own time is counted, without what runs inside."""
        outer, self._nested_micros = self._nested_micros, 0
        started = self._now()
        under, self.running = self.running, task.stage.index
        ends, self._turn_deadline = self._turn_deadline, started + self._patience
        behind = watermark()
        set_watermark(task.emitted_watermark)
        try:
            yield
        finally:
            set_watermark(behind)
            self.running, self._turn_deadline = under, ends
            spent = self._now() - started
            task.busy_micros += spent - self._nested_micros
            self._nested_micros = outer + spent

    @property
    def over_time(self) -> bool:
        """Whether the running stage has run for as long as elements may wait."""
        return self.running >= 0 and self._now() >= self._turn_deadline

    @contextmanager
    def yielding(self) -> Iterator[None]:
        """Others run inside the running stage, which has its time anew when they are through."""
        self._turn_deadline = MAX_MICROS
        yield
        self._turn_deadline = self._now() + self._patience
