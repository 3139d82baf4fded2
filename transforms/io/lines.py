"""Lines as text for messages, and values as a reader hands them on."""

from typing import Any

__all__ = ["as_text", "each"]


def each(values: Any) -> Any:
    """Returns its argument: the function of a step that takes lists of records apart."""
    return values


def as_text(line: bytes) -> str:
    """Bytes that are not UTF-8, made readable: what cannot be decoded is shown as ``\\xNN``."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")
