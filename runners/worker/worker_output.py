"""What user code prints, logs and warns of at a worker comes out at the driver, as it does in a job of one process.

There it meets what the user set up: a notebook's cell, a redirected stream, log handlers and their levels, filters of
warnings. What is written past Python, to the descriptors themselves, is not caught.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TextIO

Say = Callable[[str, Any], None]


def levels() -> dict[str, int]:
    """The level of each logger of this process that has one of its own; the root's name is empty."""
    known = list(logging.root.manager.loggerDict.items())
    own = {name: logger.level for name, logger in known if isinstance(logger, logging.Logger) and logger.level}
    return {"": logging.root.level, **own}


class OutputForwarder:
    """The worker's side: stands in for the streams, the log handlers and the display of warnings of this process.

    A process that user code forks off has no part in it: it gets back what was there before.

    Args:
        say: takes a kind and what is said: ``"print"`` a stream's name and bytes, ``"log"`` the attributes of a record,
            ``"warn"`` the arguments of a warning.
    """

    def __init__(self, say: Say) -> None:
        self._streams = {name: _stream(name, say) for name in ("stdout", "stderr")}
        self._handler = _Handler(say)
        self._say = say

    def install(self, levels: Mapping[str, int]) -> None:
        """From now on this process speaks through the driver, whose loggers have these levels."""
        before = {name: getattr(sys, name) for name in self._streams}, warnings.showwarning, logging.root.handlers
        for name, stream in self._streams.items():
            setattr(sys, name, stream)
        # Not beside others: Beam's import warns, and Python has made a handler for that, which writes by itself.
        logging.root.handlers = [self._handler]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        # The driver's filters decide.
        warnings.simplefilter("default")
        warnings.showwarning = self._warn

        def restore_streams() -> None:
            streams, warnings.showwarning, logging.root.handlers = before
            for name, stream in streams.items():
                setattr(sys, name, stream)

        os.register_at_fork(after_in_child=restore_streams)

    def flush(self) -> None:
        """Says what is begun and has no end of line yet."""
        for stream in self._streams.values():
            if not stream.closed:
                stream.flush()

    def _warn(
        self, message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        try:
            pickle.loads(pickle.dumps(category))
        except Exception:  # of the user's script, where the driver would not find it
            category = next(known for known in category.__mro__ if known.__module__ == "builtins")
        self._say("warn", (str(message), category, filename, lineno))


class _Raw(io.RawIOBase):
    def __init__(self, name: str, say: Say) -> None:
        self._name = name
        self._say = say
        self._descriptor = {"stdout": 1, "stderr": 2}[name]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        self._say("print", (self._name, bytes(data)))
        return len(data)


def _stream(name: str, say: Say) -> TextIO:
    raw: Any = _Raw(name, say)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)


class _Handler(logging.Handler):
    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.msg, record.args = record.getMessage(), None
            if record.exc_info:
                record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
                record.exc_info = None
            self._say("log", {name: value for name, value in vars(record).items() if _is_plain(value)})
        except Exception:
            self.handleError(record)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | None)


class OutputReplayer:
    """The driver's side: says here what a worker said.

    State: which warnings were given already, for filters that want each place to warn once.
    """

    def __init__(self) -> None:
        self._warned: dict[Any, Any] = {}

    def replay(self, kind: str, content: Any) -> None:
        """Prints, logs or warns.

        Raises:
            Warning: a filter of this process makes an error of it.
        """
        if kind == "print":
            name, data = content
            _write(getattr(sys, name), data.decode("utf-8", "replace"))
        elif kind == "log":
            logger = logging.getLogger(content["name"])
            if logger.isEnabledFor(content["levelno"]):
                logger.handle(logging.makeLogRecord(content))
        else:
            message, category, filename, lineno = content
            warnings.warn_explicit(message, category, filename, lineno, registry=self._warned)

    def replay_last(self, report: bytes) -> None:
        """Says what a worker's report holds, where nothing else of it counts any more."""
        with contextlib.suppress(Exception):
            kind, *content = pickle.loads(report)
            if kind == "output":
                self.replay(*content)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # a process without a terminal
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode())
