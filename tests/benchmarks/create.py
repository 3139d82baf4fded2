"""The pipeline benchmark's steps with ``Create(range(n))`` as source: most of the time is Beam's own construction."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from tests.benchmarks import beams, pipeline
from tests.benchmarks.measure import OURS, Failed, Ratio, Row, Settings, Turn, finished, rounds

NAME = "create"
WARM_UP = 1_000


@contextlib.contextmanager
def clocked_translation() -> Iterator[list[float]]:
    """The seconds of each ``to_runner_api`` of a pipeline that is called within, whoever calls it."""
    seconds: list[float] = []
    original = beam.Pipeline.to_runner_api

    @functools.wraps(original)
    def clocked(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - started)

    beam.Pipeline.to_runner_api = clocked
    try:
        yield seconds
    finally:
        beam.Pipeline.to_runner_api = original


def run_on(name: str, size: int) -> dict[str, Any]:
    """End to end: construction, translation, run; Beam's own part is clocked as it happens."""
    with clocked_translation() as translations:
        started = time.perf_counter()
        built = beam.Pipeline(runner=beams.runner(name), options=beams.options())
        pipeline.chain(built | beam.Create(range(size)))
        constructed = time.perf_counter() - started
        built.run().wait_until_finish()
        seconds = time.perf_counter() - started
    pipeline.check(dict(beams.collected()), size)
    return {"seconds": seconds, "constructed": constructed, "translated": sum(translations)}


def run_sage(size: int) -> dict[str, Any]:
    return run_on("sage", size)


def run_fnapi(size: int) -> dict[str, Any]:
    return run_on("fnapi", size)


def run_generated(size: int) -> None:
    """The generating source on our runner: what Create is compared with once Beam's own part is off."""
    pipeline.run_on("sage", size)


def bench(settings: Settings) -> list[Row]:
    """End to end against FnApiRunner, and without Beam's own part against the generating source."""
    # Never less: what a job costs however small it is would count in the ratio to a slope.
    size = 1_000_000
    ways = {OURS: (size,), "fnapi": (settings.pick(size // 5, size),), "generated": (size // 10, size)}
    turns = rounds(settings, NAME, ways, settings.pick(2, 3))
    against, source = f"Create(range({size:,})), end to end, against FnApiRunner", "without Beam's own part"
    try:
        ours, peer, generated = (finished(turns, way) for way in ways)
    except Failed as error:
        return [Row(NAME, against, None, 5.0, note=str(error))]
    end_to_end = Ratio([(a.rate_of_one, b.rate_of_one) for a, b in zip(ours, peer, strict=True)])
    bare = Ratio([(without_beam(a), b.rate) for a, b in zip(ours, generated, strict=True)])
    own = statistics.median(map(beams_own, ours))
    note = f"{bare.note}; Beam's construction and to_runner_api {own:.2f} s of {ours[0].walls[0]:.2f} s"
    return [
        Row(NAME, against, end_to_end.median, 5.0, note=end_to_end.note),
        Row(NAME, f"{source}, against the generating source", bare.median, 0.7, note=note),
    ]


def beams_own(turn: Turn) -> float:
    """Seconds a turn spent in Beam's construction and ``to_runner_api``."""
    return float(turn.extra["constructed"] + turn.extra["translated"])


def without_beam(turn: Turn) -> float:
    """Elements a second of a run with Beam's construction and ``to_runner_api`` taken off."""
    return turn.sizes[-1] / (turn.walls[-1] - beams_own(turn))
