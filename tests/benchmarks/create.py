"""The pipeline benchmark's steps with ``Create(range(n))`` as source: most of the time is Beam's own construction."""

from __future__ import annotations

import statistics
import time
from typing import Any

import apache_beam as beam

from tests.benchmarks import beams, pipeline
from tests.benchmarks.measure import OURS, Failed, Ratio, Row, Settings, Turn, finished, human, rounds

NAME = "create"
WARM_UP = 1_000


def build(name: str, size: int) -> beam.Pipeline:
    """The pipeline, constructed and not yet run."""
    built = beam.Pipeline(runner=beams.runner(name), options=beams.options())
    pipeline.chain(built | beam.Create(range(size)))
    return built


def run_on(name: str, size: int) -> dict[str, Any]:
    """End to end: construction, translation, run. Then, off the clock, Beam's own part of it once more."""
    started = time.perf_counter()
    build(name, size).run().wait_until_finish()
    seconds = time.perf_counter() - started
    pipeline.check(dict(beams.collected()), size)
    started = time.perf_counter()
    build(name, size).to_runner_api()
    return {"seconds": seconds, "beams_own": time.perf_counter() - started}


def run_sage(size: int) -> dict[str, Any]:
    return run_on("sage", size)


def run_fnapi(size: int) -> dict[str, Any]:
    return run_on("fnapi", size)


def run_generated(size: int) -> None:
    """The generating source on our runner: what Create is compared with once Beam's own part is off."""
    pipeline.run_on("sage", size)


def bench(settings: Settings) -> list[Row]:
    """End to end against FnApiRunner, and without Beam's own part against the generating source."""
    size = settings.pick(200_000, 1_000_000)
    ways = {OURS: (size,), "fnapi": (size,), "generated": (size // 10, size)}
    turns = rounds(settings, NAME, ways, settings.pick(2, 3))
    against, source = f"Create(range({size:,})), end to end, against FnApiRunner", "without Beam's own part"
    try:
        ours, peer, generated = (finished(turns, way) for way in ways)
    except Failed as error:
        return [Row(NAME, against, None, 5.0, note=str(error))]
    end_to_end = Ratio([(a.rate_of_one, b.rate_of_one) for a, b in zip(ours, peer, strict=True)])
    bare = Ratio([(without_beam(a), b.rate) for a, b in zip(ours, generated, strict=True)])
    own = statistics.median(turn.extra["beams_own"] for turn in ours)
    return [
        Row(NAME, against, end_to_end.median, 5.0, note=end_to_end.note),
        Row(NAME, f"{source}, against the generating source", bare.median, 0.7,
            note=f"{bare.note}; Beam's construction and to_runner_api {own:.2f} s of {ours[0].walls[0]:.2f} s"),
    ]  # fmt: skip


def without_beam(turn: Turn) -> float:
    """Elements a second of a run with Beam's construction and ``to_runner_api`` taken off."""
    left = turn.walls[-1] - turn.extra["beams_own"]
    if left <= 0:
        raise Failed(f"Beam's own part took longer than the run ({human(turn.sizes[-1] / -left)}/s short)")
    return turn.sizes[-1] / left
