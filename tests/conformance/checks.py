"""Whether what a test checks inside its pipelines was checked: a runner that runs nothing would pass it else.

A check that has run to its end leaves a file, whichever process it ran in. One that is missing, of a pipeline that
ran without an error, makes the test hollow: it passed and shows nothing.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.testing import util
from apache_beam.transforms import trigger_test


class Checks:
    """The checks of the test that runs.

    Args:
        folder: where they leave their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._transcript = folder / "transcript"
        self._is_transcript = False
        self._numbers = itertools.count()
        self._made: weakref.WeakKeyDictionary[beam.Pipeline, list[Path]] = weakref.WeakKeyDictionary()
        self._due: list[Path] = []

    def watch(self) -> None:
        """Has every ``assert_that`` watched, and the DoFn that checks Beam's trigger transcripts."""
        self._watch_asserts()
        self._watch_runs()
        trigger_test._windowed_value_info_check = leaving(trigger_test._windowed_value_info_check, self._transcript)

    def _watch_asserts(self) -> None:
        original, per_window = util.assert_that, util._EqualToPerWindowMatcher

        @functools.wraps(original)
        def assert_that(
            actual: Any, matcher: Any, label: str = "assert_that", reify_windows: bool = False, **more: Any
        ) -> Any:
            if isinstance(matcher, per_window):  # Beam knows it by its class, which is hidden here
                reify_windows = more["use_global_window"] = True
            file = self._folder / str(next(self._numbers))
            if isinstance(actual, beam.PCollection):
                self._made.setdefault(actual.pipeline, []).append(file)
            return original(actual, leaving(matcher, file), label, reify_windows, **more)

        util.assert_that = assert_that

    def _watch_runs(self) -> None:
        original = beam.Pipeline.run

        @functools.wraps(original)
        def run(pipeline: beam.Pipeline, *arguments: Any, **named: Any) -> Any:
            result = original(pipeline, *arguments, **named)
            self._due += self._made.get(pipeline, ())
            self._due += [self._transcript] * self._is_transcript
            return result

        beam.Pipeline.run = run

    def begin(self, test: str) -> None:
        """A test begins, with this id of pytest's."""
        self._is_transcript = "TranscriptTest::" in test
        self._due.clear()
        for file in self._folder.iterdir():
            file.unlink()

    @property
    def missing(self) -> int:
        """How many checks that are due were not made (count)."""
        return sum(not file.exists() for file in self._due)


def leaving(check: Callable[..., Any], file: Path) -> Callable[..., Any]:
    """The check, which leaves this file when it has run to its end."""

    # No annotations: Beam would read them as type hints.
    def marked(*arguments):  # type: ignore[no-untyped-def]
        result = check(*arguments)
        file.touch()
        return result

    return marked
