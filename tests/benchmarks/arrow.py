"""Batch DoFns on Arrow tables against the same computation in plain pyarrow."""

import functools
import gc
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks import beams
from tests.benchmarks.measure import OURS, Failed, Row, Settings, compare, rounds

NAME = "arrow"
ROWS = 16_384
WARM_UP = 4 * ROWS
TABLES = 16
_TOTALS: list[tuple[int, float]] = []


class Trip(NamedTuple):
    """A row of the input."""

    zone: int
    distance: float
    fare: float


class Priced(NamedTuple):
    """A row of the output."""

    zone: int
    per_km: float


@functools.lru_cache(maxsize=1)
def tables() -> list[pa.Table]:
    """Tables to go round; made once in a process."""
    rng = np.random.default_rng(5)
    made = []
    for _ in range(TABLES):
        zone = rng.integers(0, 263, ROWS)
        distance = rng.gamma(2.0, 2.0, ROWS)
        made.append(pa.table({"zone": zone, "distance": distance, "fare": 3.0 + 2.5 * distance + rng.random(ROWS)}))
    gc.collect()
    return made


def prepare(sizes: list[int]) -> None:
    tables()


def long_trips(batch: pa.Table) -> pa.Table:
    """The first user function: a filter."""
    return batch.filter(pc.greater(batch["distance"], 1.0))


def price(batch: pa.Table) -> pa.Table:
    """The second: a computed column."""
    return pa.table({"zone": batch["zone"], "per_km": pc.divide(batch["fare"], batch["distance"])})


def total(batch: pa.Table) -> tuple[int, float]:
    """The third: rows and sum of a batch."""
    return batch.num_rows, pc.sum(batch["per_km"]).as_py()


class Tables(beam.DoFn):
    """Gives out n rows as tables."""

    @beam.DoFn.yields_batches
    def process(self, element: int) -> Iterator[pa.Table]:
        for number in range(element // ROWS):
            yield tables()[number % TABLES]

    def infer_output_type(self, input_type: object) -> type:
        return Trip


class LongTrips(beam.DoFn):
    def process_batch(self, batch: pa.Table) -> Iterator[pa.Table]:
        yield long_trips(batch)

    def infer_output_type(self, input_type: object) -> type:
        return Trip


class Price(beam.DoFn):
    def process_batch(self, batch: pa.Table) -> Iterator[pa.Table]:
        yield price(batch)

    def infer_output_type(self, input_type: object) -> type:
        return Priced


class Total(beam.DoFn):
    """The sink: rows and sum of each batch, kept in a list of this process."""

    def process_batch(self, batch: pa.Table) -> Iterator[pa.Table]:
        _TOTALS.append(total(batch))
        return iter(())

    def infer_output_type(self, input_type: object) -> type:
        return Priced


def check(found: list[tuple[int, float]], size: int) -> None:
    """Raise Failed unless rows and sum are right."""
    count = size // ROWS
    each = [total(price(long_trips(table))) for table in tables()]
    right = [each[number % TABLES] for number in range(count)]
    rows, amount = sum(rows for rows, _ in found), sum(part for _, part in found)
    if rows != sum(rows for rows, _ in right) or abs(amount / sum(part for _, part in right) - 1) > 1e-9:
        raise Failed(f"wrong totals of {size} rows: {rows} rows, {amount}")


def run_on(name: str, size: int) -> None:
    """Source, filter, computed column and sum as batch DoFns on a Beam runner."""
    _TOTALS.clear()
    pipeline = beam.Pipeline(runner=beams.runner(name), options=beams.options())
    (
        pipeline
        | beam.Create([size])
        | "tables" >> beam.ParDo(Tables())
        | "long trips" >> beam.ParDo(LongTrips())
        | "price" >> beam.ParDo(Price())
        | "total" >> beam.ParDo(Total())
    )
    pipeline.run().wait_until_finish()
    check(_TOTALS, size)


def run_sage(size: int) -> None:
    run_on("sage", size)


def run_fnapi(size: int) -> None:
    run_on("fnapi", size)


def run_plain(size: int) -> None:
    """The same computation in pyarrow alone."""
    check([total(price(long_trips(tables()[number % TABLES]))) for number in range(size // ROWS)], size)


def bench(settings: Settings) -> list[Row]:
    """Rows a second, ours against plain pyarrow (and FnApiRunner for information)."""
    large = settings.pick(400, 1_600) * ROWS
    ways = dict.fromkeys((OURS, "plain", "fnapi"), (large // 10, large))
    turns = rounds(settings, NAME, ways, settings.pick(3, 5))
    return [
        compare(NAME, "batch DoFns against plain pyarrow", turns, "plain", 0.5),
        compare(NAME, "batch DoFns against FnApiRunner", turns, "fnapi", None),
    ]
