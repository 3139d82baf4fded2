"""Writes the source of a compiled function, and remembers which line runs which step."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_LOOPS = 14  # CPython allows 20 nested blocks in a function; some are the frame's own
MAX_DEPTH = 60  # and 100 levels of indentation


class SourceWriter:
    """Lines of source with their indentation and step, and the names the source refers to.

    What comes from the user, names and tags included, is bound with `bind` or `keyword` and never part of a line.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.starts: list[tuple[str, str | None]] = []
        self.ends: list[tuple[str, str | None]] = []
        self.step_of_line: dict[int, str] = {}
        self.names: dict[str, Any] = {}
        self.depth = 1
        self.loops = 0
        self._count = 0

    def start(self, text: str, step: str | None = None) -> None:
        """Adds a line that runs once, before the first element."""
        self.starts.append((text, step))

    def ordinary(self, value: str, site: Any) -> str:
        """The source of a test whether a value is an ordinary element; ``site`` remembers the classes met there."""
        last, kind, known = self.fresh("c"), self.bind("type", type), self.bind("ordinary", site)
        self.start(f"{last} = {known}.last")
        met = f"{kind}({value}) is {last} or {kind}({value}) in {known}"
        return f"{met} or ({last} := {known}.learn({value})) is not None"

    def end(self, text: str, step: str | None = None) -> None:
        """Adds a line that runs once, after the last element."""
        self.ends.append((text, step))

    def line(self, text: str, step: str | None = None) -> None:
        """Adds a line; ``step`` is the step whose user code it runs."""
        self.lines.append("    " * self.depth + text)
        if step is not None:
            self.step_of_line[len(self.lines)] = step

    @contextmanager
    def block(self, text: str, step: str | None = None) -> Iterator[None]:
        """A compound statement and its body."""
        loop = text.startswith(("for ", "while "))
        self.line(text, step)
        self.depth += 1
        self.loops += loop
        yield
        self.depth -= 1
        self.loops -= loop

    def fresh(self, prefix: str) -> str:
        """A local name that is not used yet."""
        self._count += 1
        return f"{prefix}{self._count}"

    def bind(self, prefix: str, value: Any) -> str:
        """A name for an object that the source uses."""
        name = self.fresh(f"_{prefix}")
        self.names[name] = value
        return name

    def keyword(self, name: str, value: str) -> str:
        """The source that passes a value by keyword; any text may name a keyword argument."""
        if name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and name != "__debug__":
            return f"{name}={value}"
        # Python's parser would refuse such a name, or make another of it.
        return f"**{{{self.bind('name', name)}: {value}}}"

    @property
    def full(self) -> bool:
        """Whether the nesting is as deep as Python allows."""
        return self.loops >= MAX_LOOPS or self.depth >= MAX_DEPTH

    def build(self, header: str, file: str) -> Any:
        """Compiles the function; its names become its defaults, which are locals to it and so fast."""
        arguments = "".join(f", {name}={name}" for name in self.names)
        starts = ["    " + line for line, _ in self.starts]
        ends = ["    " + line for line, _ in self.ends]
        text = "\n".join([header.replace("...", arguments), *starts, *self.lines, *ends]) + "\n"
        first = len(starts) + 1
        lines = {number + first: step for number, step in self.step_of_line.items()}
        lines.update({number + 2: step for number, (_, step) in enumerate(self.starts) if step is not None})
        behind = first + len(self.lines) + 1
        lines.update({number + behind: step for number, (_, step) in enumerate(self.ends) if step is not None})
        namespace = dict(self.names)
        exec(compile(text, file, "exec"), namespace)
        function = namespace["run"]
        function.source = text
        function.step_of_line = lines
        return function
