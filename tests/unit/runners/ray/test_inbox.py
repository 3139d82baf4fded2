from __future__ import annotations

import itertools
import random

import pytest

from sage.runners.ray.inbox import Inbox


def drain(inbox: Inbox) -> list[tuple[int, bytes | None]]:
    return list(iter(lambda: inbox.take(0), None))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_senders_messages_come_out_in_the_order_of_their_numbers(order: tuple[int, ...]) -> None:
    inbox = Inbox()
    for number in order:
        inbox.put(1, number, bytes([number]))
    assert drain(inbox) == [(1, bytes([number])) for number in range(4)]


def test_what_comes_early_waits_for_its_own_sender_only() -> None:
    inbox = Inbox()
    inbox.put(1, 1, b"late")
    inbox.put(2, 0, b"other")
    assert drain(inbox) == [(2, b"other")]
    inbox.put(1, 0, b"first")
    assert drain(inbox) == [(1, b"first"), (1, b"late")]


def test_any_schedule_of_many_senders_keeps_each_ones_order() -> None:
    dice = random.Random(3)
    messages = [(sender, number) for sender in range(5) for number in range(40)]
    dice.shuffle(messages)
    inbox = Inbox()
    came = []
    for sender, number in messages:
        inbox.put(sender, number, bytes([number]))
        if dice.random() < 0.3:
            came += drain(inbox)
    came += drain(inbox)
    for sender in range(5):
        assert [data for who, data in came if who == sender] == [bytes([number]) for number in range(40)]


def test_the_word_of_the_driver_is_no_message_of_a_peer() -> None:
    inbox = Inbox()
    inbox.put(-1, 0, None)
    assert drain(inbox) == [(-1, None)]
