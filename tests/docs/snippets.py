"""The fenced blocks of a Markdown file, and what the comment above one says about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"(?P<notes>(?:^<!-- [^\n]* -->\n)*)^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_NOTE = re.compile(r"<!-- (file|not run): ([^\n]*) -->")


@dataclass(frozen=True)
class Snippet:
    """One fenced block.

    Comments right above it may say ``file: NAME`` (it is saved under that name, for later blocks to use) and
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
        notes = dict(_NOTE.findall(match["notes"]))
        yield Snippet(
            document.name,
            text.count("\n", 0, match.start("text")),
            match["language"],
            match["text"],
            notes.get("file"),
            notes.get("not run"),
        )
