"""One query on one runner, checked against its reference."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from typing import Any

import apache_beam as beam

from tests.benchmarks import beams
from tests.benchmarks.measure import Failed
from tests.benchmarks.nexmark.model import Config
from tests.benchmarks.nexmark.queries import QUERIES
from tests.benchmarks.nexmark.source import Replay, made_before

__all__ = ["run_query"]


def run_query(number: int, runner: Any, count: int, config: Config, *flags: str) -> tuple[float, float]:
    """Run Q``number`` over ``count`` events: seconds of wall and of CPU time, without the check of the results.

    Raises:
        Failed: its results are not those of the reference.
    """
    query = QUERIES[number]
    made, _ = made_before(count, config)
    beams.collected()
    with tempfile.TemporaryDirectory(prefix="nexmark-") as folder:
        written = dataclasses.replace(config, log_dir=folder)
        started, busy = time.perf_counter(), time.process_time()
        pipeline = beam.Pipeline(runner=runner, options=beams.options(*flags))
        stream = pipeline | beam.Create([count]) | "events" >> beam.ParDo(Replay(config))
        query.load(stream, written) | "collect" >> beam.ParDo(beams.Collect())
        pipeline.run().wait_until_finish()
        seconds = time.perf_counter() - started, time.process_time() - busy
        wrong = query.differs(beams.collected(), made, written)
    if wrong:
        raise Failed(f"Q{number} over {count} events: {wrong}")
    return seconds
