"""The joins and the deduplication give the same on each runner, for input that ends and as if it did not."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.window import TimestampedValue

from sage.runners.local import LocalRunner
from sage.testing import FN_API_RUNNER
from sage.transforms.deduplicate import Deduplicate
from sage.transforms.joins import AsOfJoin, IntervalJoin, Join, TableJoin
from tests.models.timeline import LEFT, RIGHT, Bounded, Endless

Make = Callable[[], beam.PTransform]

EVENTS = [
    (LEFT, {"k": "a", "n": 0}, 1),
    (RIGHT, {"k": 1, "n": 1}, 2),
    (LEFT, {"k": 1.0, "n": 2}, 3),
    (RIGHT, {"k": "a", "n": 3}, 4),
    (RIGHT, {"k": None, "n": 4}, 4),
    (LEFT, {"k": None, "n": 5}, 5),
    (LEFT, {"k": 7, "n": 6}, 6),
]
JOINS: dict[str, Make] = {
    "plain": partial(Join, on="k", how="full"),
    "interval": partial(IntervalJoin, on="k", within=2, how="full"),
    "interval anti": partial(IntervalJoin, on="k", within=2, how="anti"),
    "as of": partial(AsOfJoin, on="k", how="left"),
    "side": partial(TableJoin, on="k", how="left", table_as="side"),
}


class All(beam.PTransform):
    """Each join twice, of input that ends and of the same as if it did not; sorted texts with their timestamps."""

    def expand(self, pbegin: Any) -> Any:
        bounded = pbegin | Bounded([EVENTS])
        endless = tuple(side | f"endless {n}" >> Endless() for n, side in enumerate(bounded))
        made = []
        for name, make in JOINS.items():
            for way, sides in (("ends", bounded), ("goes on", endless)):
                if (name, way) != ("plain", "goes on"):  # Beam groups no endless input without windows.
                    rows = sides | f"{name} {way}" >> make()
                    made.append(rows | f"tell {name} {way}" >> beam.ParDo(Tell(name)))
        together = tuple(made) | beam.Flatten()
        together.is_bounded = True
        return together


class Tell(beam.DoFn):
    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, row: Any, stamp: Any = beam.DoFn.TimestampParam) -> Any:
        yield f"{self.name}: {row}" + ("" if self.name == "plain" else f" {stamp.micros}")


def lines(path: Path, runner: Any, *options: str) -> list[str]:
    pipeline_options = beam.options.pipeline_options.PipelineOptions(list(options))
    with beam.Pipeline(runner=runner, options=pipeline_options) as p:
        p | All() | beam.io.WriteToText(str(path), shard_name_template="")
    return sorted(path.read_text(encoding="utf-8").splitlines())


def test_a_join_is_the_same_on_any_runner_and_for_any_input(tmp_path: Path) -> None:
    one = lines(tmp_path / "one", LocalRunner())
    assert len(one) == 5 + 2 * (6 + 3 + 4 + 4)
    counted = Counter(one)
    assert all(count == 2 for line, count in counted.items() if not line.startswith("plain"))
    assert lines(tmp_path / "two", LocalRunner(), "--workers=2") == one
    assert lines(tmp_path / "beam", FN_API_RUNNER) == one


@pytest.mark.parametrize(("runner", "options"), [(LocalRunner(), ["--workers=2"]), (FN_API_RUNNER, [])])
def test_of_elements_that_are_near_one_passes(tmp_path: Path, runner: Any, options: list[str]) -> None:
    pairs = [(key, number) for number in range(40) for key in "abc"]
    with beam.Pipeline(runner=runner, options=beam.options.pipeline_options.PipelineOptions(options)) as p:
        rows = p | beam.Create(pairs, reshuffle=False) | beam.Map(lambda pair: TimestampedValue(pair, pair[1]))
        passed = rows | Endless() | Deduplicate(10)
        passed.is_bounded = True
        passed | beam.io.WriteToText(str(tmp_path / "out"), shard_name_template="")
    passed = [eval(line) for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines()]
    # Which ones pass is a matter of the order in which they come; how many at least and at most is not.
    for key in "abc":
        stamps = sorted(number for other, number in passed if other == key)
        assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(stamps))
        assert all(min(abs(number - stamp) for stamp in stamps) < 10 for number in range(40))
