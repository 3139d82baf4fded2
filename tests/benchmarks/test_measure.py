"""The arithmetic behind the benchmarks' figures (no timing here)."""

from __future__ import annotations

import pytest

from tests.benchmarks import pipeline
from tests.benchmarks.cli import table
from tests.benchmarks.measure import Failed, Ratio, Row, Turn, compare, human, parse_turn
from tests.benchmarks.text import text_file


def turn(rate: float, start_up: float = 0.5) -> Turn:
    sizes = [1_000, 10_000]
    seconds = [start_up + size / rate for size in sizes]
    return Turn(sizes, seconds, seconds)


def test_slope_leaves_start_up_out() -> None:
    assert turn(2_000, start_up=5).rate == pytest.approx(2_000)


def test_slope_takes_the_best_of_repeated_sizes() -> None:
    assert Turn([10, 20, 10, 20], [1.0, 9.0, 3.0, 2.0], [0.0] * 4).rate == pytest.approx(10)


def test_no_slope_is_said() -> None:
    with pytest.raises(Failed, match="too close"):
        _ = Turn([10, 20], [1.0, 1.0], [1.0, 1.0]).rate


def test_ratio_is_taken_within_a_round() -> None:
    assert Ratio([(4.0, 1.0), (40.0, 10.0), (10.0, 10.0)]).median == 4.0


def test_compare_names_the_way_that_failed() -> None:
    row = compare("pipeline", "against", {"sage": [turn(2)], "fnapi": Failed("out of luck")}, "fnapi", 4.0)
    assert row.verdict == "FAILED"
    assert row.note == "fnapi: out of luck"


def test_verdicts() -> None:
    assert Row("a", "b", 4.0, 4.0).verdict == "ok"
    assert Row("a", "b", 3.9, 4.0).verdict == "MISSED"
    assert Row("a", "b", 0.9, 0.8, "s", at_least=False).verdict == "MISSED"
    assert Row("a", "b", 0.9).verdict == ""
    assert "MISSED" in table([Row("a", "b", 3.9, 4.0)])


def test_child_that_died_is_told_by_its_last_words() -> None:
    with pytest.raises(Failed, match="ValueError: no"):
        parse_turn("", "Traceback\n  File x\nValueError: no\n")


@pytest.mark.parametrize("size", [1, 1_000, 1_001, 25_000])
def test_expected_sums_are_those_of_the_loop(size: int) -> None:
    pipeline.run_loop(size)


def test_text_is_the_same_every_time(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_BENCH_DIR", str(tmp_path))
    first = text_file(20_000)
    text = first.read_text()
    first.unlink()
    assert text_file(20_000).read_text() == text
    assert 20_000 <= len(text) < 20_300


def test_human() -> None:
    assert [human(number) for number in (12.3, 4_560, 7_890_000)] == ["12.3", "4.56 k", "7.89 M"]
