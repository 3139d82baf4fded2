"""Restart policies: which failure is the last, and how long the others wait."""

from __future__ import annotations

import pytest

from sage.errors import ConfigError
from sage.runners.engine.checkpoint.restarts import Exponential, FailureRate, FixedDelay, Never, restart_policy

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("none", Never()),
        ("fixed-delay:3:1s", FixedDelay(3, SECOND)),
        ("exponential:500ms:1m", Exponential(SECOND // 2, 60 * SECOND)),
        (" failure-rate:5:10m:1s", FailureRate(5, 600 * SECOND, SECOND)),
    ],
)
def test_a_policy_is_what_its_text_says(text: str, policy: object) -> None:
    assert restart_policy(text) == policy


@pytest.mark.parametrize(
    "text", ["", "always", "fixed-delay", "fixed-delay:3", "fixed-delay:x:1s", "none:1", "exponential:1s:6y"]
)
def test_another_text_is_refused_with_what_could_be_written(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not|give 1 or more"):
        restart_policy(text)


def test_no_policy_begins_again_on_none() -> None:
    assert Never().delay([0]) is None


def test_a_fixed_delay_gives_up_after_its_attempts() -> None:
    policy = FixedDelay(2, 7)
    assert [policy.delay(list(range(count))) for count in (1, 2, 3)] == [7, 7, None]


def test_an_exponential_delay_grows_to_its_most_and_begins_anew_after_a_quiet_time() -> None:
    policy = Exponential(1, 5, reset=100)
    assert [policy.delay(list(range(count))) for count in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]
    assert policy.delay([0, 1, 2, 103]) == 1
    assert policy.delay([0, 1, 2, 102]) == 5


def test_a_failure_rate_counts_what_is_recent_only() -> None:
    policy = FailureRate(2, 10, 7)
    assert policy.delay([0, 5]) == 7
    assert policy.delay([0, 5, 10]) is None
    assert policy.delay([0, 5, 11]) == 7
