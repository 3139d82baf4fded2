"""How much is taken up at a time: by how long it took before, and what of that is there whatever the size."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sage.runners.engine.core.adaptive_batch import AdaptiveBatchSize, CostModel

TURN = 10_000
MOST = 1_000


def _grown(size: int) -> AdaptiveBatchSize:
    batch = AdaptiveBatchSize(MOST, TURN)
    while batch.size < size:
        batch.observe(batch.size, micros=0)
    return batch


def _sizes(cost: Callable[[int], float], batches: int = 60, first: int = 1, growth: int = 2) -> list[int]:
    """The sizes of batches that cost so much (microseconds) by their size."""
    batch = AdaptiveBatchSize(MOST, TURN, first, growth)
    sizes = []
    for _ in range(batches):
        sizes.append(batch.size)
        batch.observe(batch.size, int(cost(batch.size)))
    return sizes


def test_a_batch_grows_while_it_takes_less_than_a_turn() -> None:
    batch = AdaptiveBatchSize(MOST, TURN)
    sizes = []
    for _ in range(12):
        batch.observe(batch.size, micros=batch.size * 5)
        sizes.append(batch.size)
    assert sizes == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000, 1_000]


def test_a_batch_is_as_small_as_a_slow_step_has_it() -> None:
    batch = _grown(16)
    batch.observe(16, micros=16 * 2_000)
    assert batch.size == 5
    batch.observe(5, micros=5_000_000)
    assert batch.size == 1
    batch.observe(1, micros=1_000_000)
    assert batch.size == 1


def test_less_than_a_batch_in_time_says_nothing_of_its_size() -> None:
    batch = _grown(16)
    batch.observe(15, micros=9_000)
    assert batch.size == 16


def test_the_parts_of_a_cost_are_told_from_each_other() -> None:
    cost = CostModel()
    cost.observe(1, 34_000)
    assert (cost.varied, cost.fixed) == (False, 0.0)
    for rows in (4, 1, 8, 2, 4, 16, 8, 1):
        cost.observe(rows, 30_000 + 4_000 * rows)
    assert 20_000 < cost.fixed <= 30_000
    assert 4_000 <= cost.per_row(cost.fixed) < 6_000


@pytest.mark.parametrize("first", [1, 30, MOST])
def test_where_a_batch_costs_the_same_whatever_its_size_it_grows_to_the_most(first: int) -> None:
    """But for one now and then, by which it is seen that it still costs the same."""
    last = _sizes(lambda rows: 30_000, first=first)[-20:]
    assert last.count(MOST) >= 18
    assert min(last) >= MOST // 2


@pytest.mark.parametrize("first", [1, 30, MOST])
def test_a_fixed_cost_is_shared_by_as_many_rows_as_make_up_for_it(first: int) -> None:
    """A commit of 30 ms, and 1 ms for each row: with 270 rows, a tenth of the time is the commit's."""
    sizes = _sizes(lambda rows: 30_000 + 1_000 * rows, 200, first)[30:]
    rate = sum(sizes) / sum(30_000 + 1_000 * rows for rows in sizes)
    assert rate > 0.8 / 1_000
    assert max(sizes) <= 600


@pytest.mark.parametrize("growth", [2, 16])
@pytest.mark.parametrize("first", [1, 1000])
def test_a_pool_of_threads_is_kept_busy_and_no_batch_takes_long(first: int, growth: int) -> None:
    """Fifty calls of 200 ms at once."""
    sizes = _sizes(lambda rows: 200_000 * -(-rows // 50), 200, first, growth)[30:]
    rate = sum(sizes) / sum(200 * -(-rows // 50) for rows in sizes) * 1_000
    assert rate >= 200
    assert max(sizes) <= 600


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_cost_what_they_like_do_not_look_like_a_fixed_cost(seed: int) -> None:
    """A row takes 20 to 200 ms: two may happen to cost what one did."""
    dice = random.Random(seed)
    sizes = _sizes(lambda rows: sum(dice.uniform(20_000, 200_000) for _ in range(rows)), 500)
    assert sum(sizes) / len(sizes) < 1.5
    assert max(sizes) <= 8


@pytest.mark.parametrize("per_row", [TURN + 1, 100_000])
def test_a_row_that_costs_more_than_a_turn_is_mostly_alone(per_row: int) -> None:
    sizes = _sizes(lambda rows: per_row * rows, 500)
    assert set(sizes) <= {1, 2}
    assert sizes.count(2) < 50


def test_what_was_slow_once_is_not_for_ever() -> None:
    """The first call opens a connection for 3 s; each row then takes 1 ms."""
    costs = iter([3_000_000])
    sizes = _sizes(lambda rows: next(costs, rows * 1_000), 100)
    assert max(sizes) <= 40
    assert 8 <= sizes[-1] <= 12


def test_a_step_that_becomes_slow_has_small_batches_at_once() -> None:
    batch = AdaptiveBatchSize(MOST, TURN)
    for _ in range(50):
        batch.observe(batch.size, micros=30_000 + 10 * batch.size)
    assert batch.size == MOST
    sizes = []
    for _ in range(10):
        batch.observe(batch.size, micros=5_000 * batch.size)
        sizes.append(batch.size)
    assert min(sizes) <= 4
