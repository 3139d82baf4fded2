"""Signals while a job runs in the main thread: none is raised inside a function of the user's.

Python runs a signal's handler wherever the main thread is, and what it raises comes up there: a function with a bare
``except:`` takes a KeyboardInterrupt for a failure of its own, and what it returns then would go on as data. Therefore
the exception is kept until control is back in the engine. There the job ends, between two calls of the user's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["deferred_signals", "raise_in_engine"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TELL_S = 0.5
_GRACE_S = 2.0


@contextlib.contextmanager
def deferred_signals(name: str, cancel: Callable[[], object]) -> Iterator[Callable[[BaseException], None]]:
    """Raises what a signal's handler raises when the block ends, which it does soon.

    Handlers that do not raise are called as ever, and so is everything outside the main thread. Where the handler is
    Python's own, a function that has not returned after 2 s is interrupted, and a second Ctrl-C ends the process; in an
    interactive session it interrupts the function.

    Args:
        name: what the job is called.
        cancel: asks the job to stop. It is called in a thread of its own, for the main thread may hold its locks.

    Yields:
        What raises an error in the block as a signal's would be: when no function of the user's is at work. It may be
        called from any thread, and does nothing where the block is not the main thread's.

    Raises:
        KeyboardInterrupt: the process was interrupted, and the job has ended. Or whatever else the handler raised.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda error: None
        return
    signals = _Signals(name, cancel)
    try:
        yield signals.raise_soon
    except BaseException as error:
        if signals.raised is not None and error is not signals.raised:
            raise signals.raised from error
        raise
    finally:
        signals.close()
    if signals.raised is not None:
        raise signals.raised


class _Signals:
    """State: the handlers that were there before; what the first of them raised; the timers that it started."""

    def __init__(self, name: str, cancel: Callable[[], object]) -> None:
        self._name = name
        self._cancel = cancel
        self._before = {number: found for number in _SIGNALS if callable(found := signal.getsignal(number))}
        self._timers: list[threading.Timer] = []
        self._overdue = False
        self._own: BaseException | None = None
        self.raised: BaseException | None = None
        for number in self._before:
            signal.signal(number, self._on_signal)

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for timer in self._timers:
            timer.cancel()

    def raise_soon(self, error: BaseException) -> None:
        for number in itertools.islice(self._before, 1):
            self._own = error
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        own, self._own = self._own, None
        if own is not None:
            raise_in_engine(frame, own)
            return
        overdue, self._overdue = self._overdue, False
        if overdue:
            assert self.raised is not None
            raise_in_engine(frame, self.raised)
            raise self.raised
        handler = self._before[signal.Signals(number)]
        try:
            handler(number, frame)
        except BaseException as error:
            error.__traceback__ = None  # its frames are those of the function that it must not come up in
            again = self.raised is not None
            self.raised = self.raised or error
            raise_in_engine(frame, self.raised)
            if not again:
                threading.Thread(target=self._cancel, name="sage-cancel", daemon=True).start()
            if handler is signal.default_int_handler:
                self._as_python_does(number, again)

    def _as_python_does(self, number: int, again: bool) -> None:
        """Nobody else decides what Ctrl-C means: it has to end a function that does not return."""
        if again and not _is_interactive():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif again:
            assert self.raised is not None
            raise self.raised
        else:
            self._after(_TELL_S, self._tell)
            self._after(_GRACE_S, lambda: self._interrupt(number))

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, do)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def _tell(self) -> None:
        with contextlib.suppress(Exception):  # a stream that is closed, or that there is none
            sys.stderr.write(f"{self._name} stops when the element at hand is done; Ctrl-C again ends it at once\n")

    def _interrupt(self, number: int) -> None:
        self._overdue = True
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def raise_in_engine(frame: FrameType | None, error: BaseException) -> None:
    """Has the error come up as soon as the innermost call of the engine that no user code is under goes on.

    By a trace function, which is set now: so an element costs nothing more. Where a debugger has set one, the job ends
    at its next piece of work.
    """
    if sys.gettrace() is not None:
        return

    def raise_it(frame: FrameType, event: str, arg: Any) -> Any:
        sys.settrace(None)
        raise error

    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    job = itertools.dropwhile(lambda frame: not _is_engine(frame), reversed(stack))
    found = list(itertools.takewhile(_is_engine, job))
    for frame in found:
        frame.f_trace = raise_it
    if found:
        sys.settrace(lambda frame, event, arg: None)


def _is_engine(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<sage ") or str(frame.f_globals.get("__name__")).startswith(
        "sage.runners.engine."
    )


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
