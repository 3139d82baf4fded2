"""Helpers for testing jobs: what a stream gives, and whether runners agree on it.

>>> import sage
>>> env = sage.LocalEnvironment("doubles")
>>> sorted(collect(env.from_collection([1, 2]).map(lambda n: n * 2)))
[2, 4]
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
import cloudpickle

from sage.environment import Environment
from sage.functions import SinkFunction
from sage.streams import Stream

__all__ = ["FN_API_RUNNER", "assert_same_on", "collect", "run_and_collect"]

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Beam's own runner for tests, by its dotted name; not every version of Beam knows it by a short one."""


class _FileSink(SinkFunction[Any]):
    """Writes each bundle's elements to a file of its own, for whichever worker process it runs in."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._values: list[Any] = []

    def write(self, value: Any) -> None:
        self._values.append(value)

    def flush(self) -> None:
        values, self._values = self._values, []
        # The folder is gone when a pipeline is run again after its collection: nobody waits for these elements.
        if values and os.path.isdir(self.folder):
            path = os.path.join(self.folder, uuid.uuid4().hex)
            with open(path + ".part", "wb") as file:
                cloudpickle.dump(values, file)
            os.rename(path + ".part", path + ".pickle")


def collect(stream: Stream) -> list[Any]:
    """Run the whole job that a stream belongs to, and give the stream's elements in no particular order.

    Each call runs the whole job again, the sinks that are already on it included.

    For bounded jobs whose result fits into memory, on runners that share this machine's files. A bundle that a
    runner repeats after its end is collected twice.

    Raises:
        StepError: a step raised.
    """
    folder = tempfile.mkdtemp(prefix="sage-collect-")
    try:
        stream.sink(_FileSink(folder))
        stream.pcollection.pipeline.run().wait_until_finish()
        values: list[Any] = []
        for name in sorted(os.listdir(folder)):
            if name.endswith(".pickle"):
                with open(os.path.join(folder, name), "rb") as file:
                    values.extend(pickle.load(file))
        return values
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_and_collect(
    build: Callable[[beam.Pipeline], beam.PCollection], runner: Any = "local", **config: Any
) -> list[Any]:
    """Build a Beam pipeline, run it, and give the elements of the collection that ``build`` returns.

    Args:
        build: applies transforms to the pipeline it is given.
        runner: as an environment's ``runner`` key.
        **config: further keys of an environment's config.
    """
    env = Environment("run_and_collect", {"runner": runner, **config})
    return collect(env.from_pcollection(build(env.pipeline)))


def assert_same_on(
    build: Callable[[beam.Pipeline], beam.PCollection], runners: Sequence[Any] = ("local", FN_API_RUNNER)
) -> list[Any]:
    """Run a pipeline on each runner and compare what comes out; order does not count.

    Args:
        build: applies transforms to the pipeline it is given.
        runners: two or more, as an environment's ``runner`` key.

    Returns:
        The elements, as the first runner gave them.

    Raises:
        AssertionError: a runner's result differs from the first one's; says what is missing and what is too many.
    """
    first, *others = runners
    expected = run_and_collect(build, first)
    for runner in others:
        missing, extra = _difference(expected, run_and_collect(build, runner))
        if missing or extra:
            raise AssertionError(
                f"{runner} differs from {first}: {len(missing)} missing {missing[:5]!r}, "
                f"{len(extra)} too many {extra[:5]!r}"
            )
    return expected


def _difference(expected: list[Any], actual: list[Any]) -> tuple[list[Any], list[Any]]:
    """What the second list lacks and what it has too much, by equality; elements need no hash and no order."""
    by_text: dict[str, list[Any]] = {}
    for value in actual:
        by_text.setdefault(repr(value), []).append(value)
    missing = []
    for value in expected:
        candidates = by_text.get(repr(value), [])
        if value in candidates:
            candidates.remove(value)
        else:
            missing.append(value)
    extra = [value for values in by_text.values() for value in values]
    for value in list(missing):  # Equal values may print differently (a set, -0.0).
        if value in extra:
            missing.remove(value)
            extra.remove(value)
    return missing, extra
