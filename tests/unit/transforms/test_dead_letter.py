from __future__ import annotations

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from sage.runners.local import LocalRunner
from sage.transforms.dead_letter import MAX_PAYLOAD_CHARS, DeadLetter, ToDeadLetters, shorten


def test_what_beam_caught_becomes_dead_letters_and_the_good_elements_come_out() -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        good, bad = pipeline | beam.Create(["1", "x", "3"]) | "Parse" >> beam.Map(int).with_exception_handling()
        letters = bad | ToDeadLetters("Parse", locate=_from_input)
        assert_that(good, equal_to([1, 3]), label="good")
        reason = "ValueError: invalid literal for int() with base 10: 'x'"
        assert_that(letters, equal_to([DeadLetter("Parse", reason, "'x'", "in.txt", 2)]), label="dead")


def _from_input(element: str) -> tuple[str, int]:
    return "in.txt", 2


def test_a_letter_says_where_and_why() -> None:
    assert str(DeadLetter("Clean", "id is missing", "{}", "a.csv", 7)) == "a.csv:7: id is missing"
    assert str(DeadLetter("Clean", "id is missing", "{}", "topic")) == "topic: id is missing"
    assert str(DeadLetter("Clean", "id is missing", "{}")) == "Clean: id is missing"


def test_a_huge_element_is_cut_and_says_so() -> None:
    assert shorten("x" * MAX_PAYLOAD_CHARS) == "x" * MAX_PAYLOAD_CHARS
    assert shorten("abcdef", limit=4) == "abcd... (2 more characters)"
