"""The slow twin of grouping under the default trigger: one dictionary, keys told apart by their encoded bytes."""

from __future__ import annotations

from typing import Any

from apache_beam import coders


class Grouping:
    """Gathers keyed values by window; a window whose end the watermark has passed takes no more."""

    def __init__(self, key_coder: Any = None) -> None:
        self.encode = (key_coder or coders.FastPrimitivesCoder()).encode
        self.watermark = -(2**62)
        self.open: dict[Any, dict[bytes, list[Any]]] = {}
        self.fired: list[tuple[Any, dict[bytes, list[Any]]]] = []

    def add(self, window: Any, key: Any, value: Any) -> None:
        if self.watermark <= window.max_timestamp().micros:
            self.open.setdefault(window, {}).setdefault(self.encode(key), []).append(value)

    def advance(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)
        due = [window for window in self.open if self.watermark > window.max_timestamp().micros]
        for window in sorted(due, key=lambda window: window.max_timestamp().micros):
            self.fired.append((window, self.open.pop(window)))
