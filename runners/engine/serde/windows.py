"""Windows as plain values or bytes, and back."""

from __future__ import annotations

import struct
from typing import Any

from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from apache_beam.utils.timestamp import Timestamp

_BOUNDS = struct.Struct("!qq")


class WindowBytes:
    """Windows as bytes and back.

    Intervals go by their bounds in microseconds, since Beam's coder of them keeps whole milliseconds only; other
    windows go by the coder of their window function.
    """

    def __init__(self, coder: Any) -> None:
        self._coder = coder.get_impl()

    def encode(self, window: Any) -> bytes:
        """The bytes of a window."""
        if window.__class__ is IntervalWindow:
            return b"i" + _BOUNDS.pack(window.start.micros, window.end.micros)
        return b"w" + bytes(self._coder.encode(window))

    def decode(self, data: bytes) -> Any:
        """The window that `encode` made the bytes of."""
        if data[:1] == b"i":
            start, end = _BOUNDS.unpack_from(data, 1)
            return IntervalWindow(Timestamp(micros=start), Timestamp(micros=end))
        return self._coder.decode(data[1:])


class WindowForms:
    """Windows as plain values and back.

    Intervals go by their bounds in microseconds, since Beam's coder of them keeps whole milliseconds only; what is
    neither an interval nor the global window goes by the coder of its window function.
    """

    def __init__(self, windowfn: Any) -> None:
        self._fn = windowfn
        self._known: dict[Any, Any] = {}

    def form(self, window: Any) -> Any:
        """The plain value."""
        if window.__class__ is IntervalWindow:
            return window.start.micros, window.end.micros
        if window.__class__ is GlobalWindow:
            return None
        return self._fn.get_window_coder().encode(window)

    def window(self, form: Any) -> Any:
        """The window; equal ones that come close together are one object."""
        found = self._known.get(form)
        if found is None:
            if len(self._known) > 1000:
                self._known.clear()
            found = self._known[form] = self._made(form)
        return found

    def _made(self, form: Any) -> Any:
        if form is None:
            return GlobalWindow()
        if form.__class__ is tuple:
            return IntervalWindow(Timestamp(micros=form[0]), Timestamp(micros=form[1]))
        return self._fn.get_window_coder().decode(form)
