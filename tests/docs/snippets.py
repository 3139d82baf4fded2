"""The fenced blocks of a Markdown file, and what the comment above one says about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Snippet:
    """One fenced block.

    The comment right above it may say ``file: NAME`` (it is also saved under that name, for later blocks) or
    ``not run: WHY``.
    """

    document: str
    line: int
    language: str
    text: str
    file: str | None
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(document: Path) -> Iterator[Snippet]:
    """The blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        word, _, value = (match["note"] or "").partition(": ")
        yield Snippet(
            document.name,
            text.count("\n", 0, match.start("text")),
            match["language"],
            match["text"],
            value if word == "file" else None,
            value if word == "not run" else None,
        )
