"""The greatest and the least, of keys and of windows."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms import TopPerKey, TopPerWindow

NAN = float("nan")
ROWS = [{"v": 3}, {"v": None}, {"v": 5}, {"v": NAN}, {"v": 1}]


@pytest.mark.parametrize(
    ("least", "n", "expected"), [(False, 2, [5, 3]), (True, 2, [1, 3]), (False, 5, [5, 3, 1]), (True, 9, [1, 3, 5])]
)
def test_what_cannot_be_compared_comes_last(least: bool, n: int, expected: list[int]) -> None:
    with beam.Pipeline(runner=LocalRunner()) as p:
        rows = p | beam.Create([("k", row) for row in ROWS])
        best = rows | TopPerKey(n, by="v", least=least) | beam.Map(lambda pair: [row["v"] for row in pair[1]])
        found = best | beam.Map(lambda values: [value for value in values if value is not None and value == value])
        assert_that(found, equal_to([expected]))
        assert_that(best | beam.Map(lambda values: len(values)), equal_to([min(n, 5)]), label="how many")
        assert_that(best | beam.Map(lambda values: values[: len(expected)]), equal_to([expected]), label="first")


def test_each_window_by_itself_and_none_for_an_empty_one() -> None:
    def timed(p: beam.Pipeline, numbers: list[int]) -> Any:
        numbers = p | f"numbers {numbers}" >> beam.Create(numbers)
        numbers = numbers | f"timed {p}" >> beam.Map(lambda n: TimestampedValue(n, n))
        return numbers | beam.WindowInto(FixedWindows(10))

    with beam.Pipeline(runner=LocalRunner()) as p:
        top = timed(p, [3, 1, 4, 15, 9, 26]) | TopPerWindow(2, by=lambda n: n % 10)
        assert_that(top, equal_to([[9, 4], [15], [26]]))
    with beam.Pipeline(runner=LocalRunner()) as p:
        assert_that(timed(p, []) | TopPerWindow(2), equal_to([]))


@pytest.mark.parametrize("n", [0, 1.5, True])
def test_a_wrong_number_is_refused(n: Any) -> None:
    for transform in (TopPerKey, TopPerWindow):
        with pytest.raises(ConfigError, match="n must be a whole number of 1 or more"):
            transform(n)
