"""The summary for people: plain text, a bar for each number. Plain functions, no Beam."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sage.jobs.stdlib_report.rows import BusyWindow, ModuleUse, Totals, WordCount
from sage.transforms.dead_letter import DeadLetter

__all__ = ["render"]

_BAR = 32
_WIDTH = 88


def render(
    source: str,
    totals: Totals,
    words: dict[str, Sequence[WordCount]],
    modules: Sequence[ModuleUse],
    windows: Sequence[BusyWindow],
    dead: Iterable[DeadLetter],
    top: int,
) -> str:
    """The summary as text.

    Args:
        source: the folder that was read.
        totals: the sizes of everything that was read.
        words: the most frequent words by kind, the most frequent first.
        modules: the most imported modules, the most imported first.
        windows: the busiest windows, the busiest first.
        dead: all files that could not be used.
        top: how many dead letters to show.
    """
    dead = sorted(dead, key=DeadLetter.place)
    size = _size(totals.bytes)
    lines = [
        f"Python source in {source}",
        f"{totals.files:,} files   {totals.lines:,} lines   {size}   {len(dead):,} not usable",
    ]
    titles = {"name": "Names in code", "keyword": "Keywords", "word": "Words in comments and strings"}
    for kind, title in titles.items():
        lines += _bars(title, [(count.word, count.occurrences, "") for count in words.get(kind, ())])
    lines += _bars(
        "Most imported modules (files that import them)",
        [(use.module, use.importers, use.defined_in or use.origin) for use in modules],
    )
    lines += _bars(
        "Busiest windows (files last changed in them, UTC)",
        [(_period(window), window.files, _size(window.bytes)) for window in windows],
    )
    if dead:
        lines += _title("Not usable, and why")
        lines += [_cut(f"  {letter}") for letter in dead[:top]]
        if len(dead) > top:
            lines.append(f"  ... and {len(dead) - top} more in dead_letters.jsonl")
    return "\n".join(lines) + "\n"


def _title(title: str) -> list[str]:
    return ["", title, "-" * len(title)]


def _bars(title: str, rows: Sequence[tuple[str, int, str]]) -> list[str]:
    lines = _title(title)
    if not rows:
        return [*lines, "  (none)"]
    label_width = max(len(label) for label, _, _ in rows)
    number_width = max(len(f"{number:,}") for _, number, _ in rows)
    most = max(number for _, number, _ in rows)
    for label, number, note in rows:
        bar = "#" * max(1, round(_BAR * number / most)) if number else ""
        lines.append(f"  {label:<{label_width}}  {number:>{number_width},}  {bar:<{_BAR}}  {note}".rstrip())
    return lines


def _period(window: BusyWindow) -> str:
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _cut(line: str) -> str:
    return line if len(line) <= 2 * _WIDTH else line[: 2 * _WIDTH - 3] + "..."
