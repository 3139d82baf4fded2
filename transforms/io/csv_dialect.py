"""How the fields of a CSV file are written."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, NamedTuple

from sage.errors import ConfigError

__all__ = ["CsvDialect"]

# By default the standard library takes no field of more than 131,072 characters.
_FIELD_CHARS = (1 << 31) - 1


class CsvDialect(NamedTuple):
    """How fields are written.

    Attributes:
        delimiter: the character between fields.
        quotechar: the character around a field that has delimiters or line ends in it; None if it is text as any other.
        escapechar: the character that takes from the next its meaning, if there is one.
        multiline: whether a quoted field may hold line ends.
    """

    delimiter: str = ","
    quotechar: str | None = '"'
    escapechar: str | None = None
    multiline: bool = False

    def check(self) -> None:
        """Raises ConfigError if there is no such dialect."""
        if len(self.delimiter) != 1:
            raise ConfigError(f"the delimiter of a CSV file is one character, not {self.delimiter!r}")
        for name, char in (("quotechar", self.quotechar), ("escapechar", self.escapechar)):
            if char is not None and len(char) != 1:
                raise ConfigError(f"{name} is one character or None, not {char!r}")
        used = [char for char in (self.delimiter, self.quotechar, self.escapechar) if char is not None]
        if len(set(used)) < len(used) or not {"\r", "\n", "\0"}.isdisjoint(used):
            raise ConfigError(
                f"delimiter, quotechar and escapechar are different characters and no line ends, not {used!r}"
            )
        if self.multiline and self.quotechar is None:
            raise ConfigError("multiline=True is for line ends in quoted fields, and quotechar=None has no quotes")

    def reader(self, lines: Iterable[str]) -> Any:
        """Returns the standard library's reader of these lines."""
        if csv.field_size_limit() < _FIELD_CHARS:
            csv.field_size_limit(_FIELD_CHARS)
        quoting: Any = csv.QUOTE_NONE if self.quotechar is None else csv.QUOTE_MINIMAL
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            escapechar=self.escapechar,
            quoting=quoting,
            strict=True,
        )
