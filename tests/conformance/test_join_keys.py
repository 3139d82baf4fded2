"""Keys of joins and of deduplication are equal where their values are, whatever their types, and wherever they meet."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import TimestampedValue

import sage.joins
from sage.runners.local import LocalRunner
from sage.transforms.deduplicate import Deduplicate
from sage.transforms.joins import AsOfJoin, IntervalJoin, Join, TableJoin
from tests.models.timeline import Endless

DAY = datetime.datetime(2024, 5, 1)
LEFTS = [np.int64(1), np.str_("a"), pd.Timestamp(DAY), Decimal("2.50"), (np.int32(7), "x"), bytearray(b"b"), "lone"]
RIGHTS = [1.0, "a", DAY, 2.5, (7, np.str_("x")), b"b", "other"]
PAIRS = list(zip(LEFTS[:-1], RIGHTS[:-1], strict=True))

JOINS: dict[str, Callable[..., beam.PTransform]] = {
    "plain": Join,
    "interval": partial(IntervalJoin, within=2),
    "as of": AsOfJoin,
    "state": TableJoin,
    "side": partial(TableJoin, table_as="side"),
}


class Write(beam.DoFn):
    """Puts each result into a file of the folder, by name."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = folder, name

    def process(self, result: Any) -> None:
        with open(Path(self.folder, self.name), "a") as file:
            file.write(f"{result!r}\n")


def stamped(rows: list[Any], stamp: int) -> list[Any]:
    return [TimestampedValue(row, stamp) for row in rows]


def build(pipeline: beam.Pipeline, folder: str) -> None:
    # The table's rows come first in time, and by one source each.
    rows = []
    for name, keys, stamp in (("left", LEFTS, 2), ("right", RIGHTS, 1)):
        made = pipeline | f"make {name}" >> beam.Create([keys])
        rows.append(made | f"each {name}" >> beam.FlatMap(partial(stamped, stamp=stamp)))
    ends = tuple(rows)
    goes_on = tuple(side | f"endless {n}" >> Endless() for n, side in enumerate(ends))
    for (kind, make), (way, sides), keyed in itertools.product(
        JOINS.items(), {"ends": ends, "goes on": goes_on}.items(), ("pairs", "columns")
    ):
        if way == "goes on" and kind in ("plain", "state"):
            continue  # Beam groups no endless input without windows; a table in state races with its stream
        name = f"{kind} {way} {keyed}"
        with_keys = tuple(
            side | f"{name} key {n}" >> beam.Map(_pair if keyed == "pairs" else _row) for n, side in enumerate(sides)
        )
        joined = with_keys | name >> make(**({} if keyed == "pairs" else {"on": "k"}))
        joined | f"write {name}" >> beam.ParDo(Write(folder, name))
    together = (goes_on[0], goes_on[1]) | beam.Flatten()
    for keyed, how in (("pairs", {}), ("columns", {"on": "k"}), ("function", {"on": _first})):
        keys = together | f"dedup {keyed}" >> beam.Map(_row if keyed == "columns" else _pair)
        passed = keys | f"first {keyed}" >> Deduplicate(10, **how)  # type: ignore[arg-type]
        passed | f"write dedup {keyed}" >> beam.ParDo(Write(folder, f"dedup {keyed}"))


def _pair(key: Any) -> Any:
    return key, type(key).__name__


def _row(key: Any) -> Any:
    return {"k": key, "type": type(key).__name__}


def _first(pair: Any) -> Any:
    return pair[0]


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("workers", [1, 2])
def test_equal_keys_of_different_types_meet(tmp_path: Path, workers: int, backend: str) -> None:
    pipeline = beam.Pipeline(
        runner=LocalRunner(), options=PipelineOptions([f"--workers={workers}", f"--state_backend={backend}"])
    )
    build(pipeline, str(tmp_path))
    pipeline.run().wait_until_finish()
    found = {file.name: Counter(file.read_text().splitlines()) for file in tmp_path.iterdir()}

    pairs = Counter(repr((one, (type(one).__name__, type(other).__name__))) for one, other in PAIRS)
    columns = Counter(repr((_row(one), _row(other))) for one, other in PAIRS)
    dedup = {name: found.pop(f"dedup {name}") for name in ("pairs", "columns", "function")}
    assert len(found) == 16
    assert found == {name: pairs if name.endswith("pairs") else columns for name in found}
    assert {name: passed.total() for name, passed in dedup.items()} == dict.fromkeys(dedup, len(PAIRS) + 2)


def test_a_result_has_the_key_of_its_left_row_or_of_the_right_one_without(tmp_path: Path) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        left = pipeline | "left" >> beam.Create([(True, "l"), (1.0, "m"), (Decimal(3), "n"), (None, "o")])
        right = pipeline | "right" >> beam.Create([(1, "r"), (2.0, "s"), (None, "t")])
        joined = (left, right) | sage.joins.Join("full")
        joined | beam.ParDo(Write(str(tmp_path), "full"))
        (left, right) | "anti" >> Join(how="anti") | "write anti" >> beam.ParDo(Write(str(tmp_path), "anti"))
    assert Counter((tmp_path / "full").read_text().splitlines()) == Counter(
        [
            "(True, ('l', 'r'))", "(1.0, ('m', 'r'))", "(Decimal('3'), ('n', None))", "(2.0, (None, 's'))",
            "(None, ('o', None))", "(None, (None, 't'))",
        ]
    )  # fmt: skip
    assert Counter((tmp_path / "anti").read_text().splitlines()) == Counter(["(Decimal('3'), 'n')", "(None, 'o')"])
