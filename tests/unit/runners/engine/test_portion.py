"""How much is taken up at a time: by how long it took before."""

from __future__ import annotations

from sage.runners.engine.portion import Portion


def test_a_portion_grows_while_it_takes_less_than_a_turn() -> None:
    portion = Portion(most=1_000, turn=10_000)
    sizes = []
    for _ in range(12):
        portion.took(portion.size, micros=portion.size * 5)
        sizes.append(portion.size)
    assert sizes == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000, 1_000]


def _grown(size: int) -> Portion:
    portion = Portion(most=1_000, turn=10_000)
    while portion.size < size:
        portion.took(portion.size, micros=0)
    return portion


def test_a_portion_is_as_small_as_a_slow_step_has_it() -> None:
    portion = _grown(16)
    portion.took(16, micros=16 * 2_000)
    assert portion.size == 5
    portion.took(5, micros=5_000_000)
    assert portion.size == 1
    portion.took(1, micros=1_000_000)
    assert portion.size == 1


def test_less_than_a_portion_in_time_says_nothing_of_its_size() -> None:
    portion = _grown(16)
    portion.took(15, micros=9_000)
    assert portion.size == 16
