"""Deterministic English-looking text: words by Zipf's law, about ten a line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.benchmarks.measure import work_dir

__all__ = ["MEGABYTE", "text_file", "vocabulary"]

MEGABYTE = 1_000_000
VOCABULARY = 40_000
_ONSETS = ["", "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "w", "st", "tr", "pl", "ch", "th"]
_VOWELS = ["a", "e", "i", "o", "u", "ea", "ou", "ai"]
_CODAS = ["", "n", "r", "s", "t", "l", "nd", "st", "ng"]
_COMMON = (
    "the of and to a in that is was he for it with as his on be at by i this had not are but from or have an"
).split()


def vocabulary() -> list[str]:
    """Words by rank: the common ones first, the rare ones longer."""
    rng = np.random.default_rng(7)
    words, seen = list(_COMMON), set(_COMMON)
    while len(words) < VOCABULARY:
        syllables = 1 if len(words) < 500 else 2 if len(words) < 8_000 else 3
        word = "".join(part[rng.integers(len(part))] for _ in range(syllables) for part in (_ONSETS, _VOWELS, _CODAS))
        if word not in seen:
            seen.add(word)
            words.append(word)
    return words


def text_file(size: int) -> Path:
    """A file of whole lines of at least ``size`` bytes and at most a line more; made once, then kept."""
    path = work_dir() / f"text-{size}.txt"
    if path.exists():
        return path
    rng = np.random.default_rng(size)
    words = np.array(vocabulary(), dtype=object)
    cumulated = np.cumsum(1.0 / np.arange(1, len(words) + 1))
    cumulated /= cumulated[-1]
    unfinished = path.with_suffix(f".{os.getpid()}")
    written = 0
    with unfinished.open("w", encoding="utf-8", newline="\n") as out:
        while written < size:
            lengths = rng.integers(4, 17, size=2_000)
            ranks = np.searchsorted(cumulated, rng.random(int(lengths.sum())))
            stream = iter(words[np.minimum(ranks, len(words) - 1)].tolist())
            for length in lengths.tolist():
                line = " ".join(next(stream) for _ in range(length)) + "\n"
                out.write(line)
                written += len(line)
                if written >= size:
                    break
    unfinished.rename(path)
    return path
