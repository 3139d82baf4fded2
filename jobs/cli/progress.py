"""The live display of running jobs on a terminal: per step elements, rate and time."""

from __future__ import annotations

import datetime
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sage.handle import JobHandle, JobState, StepProgress, StepState, Vitals

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["LiveDisplay", "RateMeter", "fold_steps", "merge_steps", "size_text", "vitals_text"]

_REFRESH_PER_SECOND = 4
_RATE_WINDOW_S = 3.0
_END_OF_TIME_MS = 253_402_300_799_000  # what lies behind is Beam's end of all windows, and no date
_GLYPHS: dict[StepState, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    "done": ("✔", "green"),
}


def merge_steps(steps: Sequence[StepProgress]) -> list[StepProgress]:
    """One entry for each name: a planner may run one step as several, a combine before and after a shuffle."""
    return _grouped(steps, lambda name: name)


def fold_steps(steps: Sequence[StepProgress]) -> list[StepProgress]:
    """Steps as the user applied them: the parts of a composite become one line.

    A folded line takes in what its first part does and puts out what its last part does; times add up.
    """
    return _grouped(steps, lambda name: name.partition("/")[0])


def _grouped(steps: Sequence[StepProgress], group_of: Callable[[str], str]) -> list[StepProgress]:
    groups: dict[str, list[StepProgress]] = {}
    for step in steps:
        groups.setdefault(group_of(step.name), []).append(step)
    return [_folded(name, parts) for name, parts in groups.items()]


def _folded(name: str, parts: Sequence[StepProgress]) -> StepProgress:
    states = {part.state for part in parts}
    state = states.pop() if len(states) == 1 else "running"
    return StepProgress(
        name=name,
        elements_in=parts[0].elements_in,
        elements_out=parts[-1].elements_out,
        busy_ms=sum(part.busy_ms for part in parts),
        state=state,
        late_dropped=sum(part.late_dropped for part in parts),
    )


@dataclass
class RateMeter:
    """Elements per second over the last few seconds, from a count that only grows.

    State kept: the samples inside the window.
    """

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def update(self, now: float, count: int) -> float:
        """Add a sample (``now`` in seconds) and return the rate (elements/s)."""
        self.samples.append((now, count))
        while len(self.samples) > 2 and now - self.samples[0][0] > _RATE_WINDOW_S:
            self.samples.popleft()
        (first, before) = self.samples[0]
        return (count - before) / (now - first) if now > first else 0.0


def vitals_text(vitals: Vitals, now: float, rate: float | None = None) -> str:
    """One line on how a streaming job is doing; empty if it reads no stream.

    Args:
        vitals: what the job tells.
        now: the time (seconds since the epoch).
        rate: what is read in a second (count), where that is known.
    """
    parts = []
    if rate is not None and vitals.read:
        parts.append(f"reads {_rate_text(rate)}/s")
    if vitals.lag is not None:
        parts.append(f"lag {vitals.lag:,}")
    if vitals.watermark_ms is not None and vitals.watermark_ms < _END_OF_TIME_MS:
        at = datetime.datetime.fromtimestamp(vitals.watermark_ms / 1_000, datetime.timezone.utc)
        parts.append(f"event time {at:%Y-%m-%d %H:%M:%S}")
    if vitals.late_dropped:
        parts.append(f"{vitals.late_dropped:,} dropped as late")
    if vitals.checkpoint is not None:
        taken = vitals.checkpoint
        age = _seconds_text(max(now - taken.ended_ms / 1_000, 0.0))
        took = f"in {taken.ended_ms - taken.began_ms:.0f} ms"
        parts.append(f"state {size_text(taken.state_bytes)}")
        parts.append(f"checkpoint {taken.number}: {size_text(taken.size_bytes)} {took}, {age} ago")
    if vitals.restarts:
        parts.append(f"began again {vitals.restarts} times" if vitals.restarts > 1 else "began again once")
    return " · ".join(parts)


class LiveDisplay:
    """Draws the progress of every watched job on stderr while it is open, and leaves the last picture standing.

    The first job that starts opens the drawing, so that a script may still ask its user something before.
    State kept: the watched jobs and a rate meter for each of their steps.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._live: Live | None = None
        self._jobs: list[_WatchedJob] = []
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []

    def __enter__(self) -> LiveDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the last picture standing. May be called again, and from any thread."""
        if self._live is not None:
            self._live.stop()
            for handler, stream in self._moved:
                handler.setStream(stream)
            self._moved = []

    def watch(self, handle: JobHandle) -> None:
        """Add a job to the display."""
        self._jobs.append(_WatchedJob(handle))
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=self._console or Console(stderr=True),
                get_renderable=self._picture,
                refresh_per_second=_REFRESH_PER_SECOND,
                # Output that goes to a file or a pipe stays as it is; only what shares our screen moves above us.
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            streams = sys.stdout, sys.stderr
            self._live.start()
            self._move_handlers(*streams)

    def _move_handlers(self, *streams: Any) -> None:
        """Has log handlers write above the display: they keep the stream that there was when they were made."""
        moved = dict(zip(map(id, streams), (sys.stdout, sys.stderr), strict=True))
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for handler in {id(h): h for logger in loggers for h in getattr(logger, "handlers", ())}.values():
            if type(handler) is logging.StreamHandler and id(handler.stream) in moved:
                self._moved.append((handler, handler.stream))
                handler.setStream(moved[id(handler.stream)])

    def _picture(self) -> RenderableType:
        from rich.console import Group

        return Group(*(job.picture() for job in self._jobs))


class _WatchedJob:
    def __init__(self, handle: JobHandle) -> None:
        self._handle = handle
        self._started = time.monotonic()
        self._elapsed = 0.0
        self._ended = False
        self._meters: dict[str, RateMeter] = {}
        self._reading = RateMeter()

    def picture(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        state = str(self._handle.state)
        if not self._ended:
            self._elapsed = time.monotonic() - self._started
            self._ended = JobState(state).terminal
        table = Table(box=None, pad_edge=False, title=self._title(state), title_justify="left", title_style="")
        table.add_column("")
        table.add_column("step", overflow="ellipsis", no_wrap=True)
        steps = fold_steps(self._handle.progress())
        late = any(step.late_dropped for step in steps)
        for heading in ("in", "out", "elements/s", "busy", *(("late, dropped",) if late else ())):
            table.add_column(heading, justify="right", no_wrap=True)
        for step in steps:
            glyph, style = _GLYPHS[step.state]
            table.add_row(
                Text(glyph, style=style),
                Text(step.name, style="dim" if step.state == "waiting" else ""),
                f"{step.elements_in:,}",
                f"{step.elements_out:,}",
                _rate_text(self._rate(step)),
                _seconds_text(step.busy_ms / 1000),
                *((f"{step.late_dropped:,}" if step.late_dropped else "",) if late else ()),
            )
        line = self._vitals()
        return Group(table, Text(line, style="dim")) if line else table

    def _vitals(self) -> str:
        """How a streaming job is doing; empty for others."""
        vitals = getattr(self._handle, "vitals", lambda: None)()
        if vitals is None or not getattr(self._handle, "endless", False):
            return ""
        rate = None if self._ended else self._reading.update(self._elapsed, vitals.read)
        return vitals_text(vitals, time.time(), rate)

    def _rate(self, step: StepProgress) -> float:
        # A source takes in nothing to speak of: what moves through it is what it puts out.
        count = max(step.elements_in, step.elements_out)
        if self._ended:
            return count / self._elapsed if self._elapsed else 0.0
        return self._meters.setdefault(step.name, RateMeter()).update(self._elapsed, count)

    def _title(self, state: str) -> str:
        from rich.markup import escape

        colour = {"DONE": "green", "FAILED": "red", "CANCELLED": "yellow"}.get(state, "cyan")
        name = escape(self._handle.name)
        state_text = "stopped" if state == "DONE" and getattr(self._handle, "stopped_at", None) else state.lower()
        return f"[bold]{name}[/bold]  [{colour}]{state_text}[/{colour}]  {_seconds_text(self._elapsed)}"


def _rate_text(rate: float) -> str:
    if rate >= 1_000_000:
        return f"{rate / 1_000_000:.1f} M"
    if rate >= 1_000:
        return f"{rate / 1_000:.1f} k"
    return f"{rate:.0f}"


def size_text(count: int) -> str:
    """A number of bytes in three digits: 12.4 MB."""
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= 1_000 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _seconds_text(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"
