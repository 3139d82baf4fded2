"""What waits for the stages of a worker: in order, counted, the stage furthest downstream first."""

from __future__ import annotations

from sage.runners.engine.checkpoint.snapshot import Barrier
from sage.runners.engine.core.blocks import Block
from sage.runners.engine.runtime.inboxes import INBOX_ROWS, Entry, Inboxes


def entry(rows: int) -> Entry:
    return 0, Block([1] * rows), 0, 0


def test_the_stage_furthest_downstream_is_next_and_none_at_or_behind_the_one_at_work() -> None:
    inboxes = Inboxes(range(4))
    for stage in (1, 3, 2, 3):
        inboxes.put(stage, entry(1))
    assert (bool(inboxes), inboxes.furthest) == (True, 3)
    assert [inboxes.next(1), inboxes.next(1), inboxes.next(1)] == [3, 2, None]
    assert [inboxes.next(-1), inboxes.next(-1)] == [1, None]
    assert (bool(inboxes), inboxes.furthest) == (False, -1)


def test_what_is_put_back_is_next() -> None:
    inboxes = Inboxes([0])
    first, second, rest = entry(4), entry(2), entry(3)
    inboxes.put(0, first)
    inboxes.put(0, second)
    assert inboxes.take(0) is first
    inboxes.put_back(0, rest)
    assert [inboxes.take(0), inboxes.take(0), inboxes.take(0)] == [rest, second, None]


def test_a_stage_is_queued_again_only_while_something_waits_for_it() -> None:
    inboxes = Inboxes([0])
    inboxes.put(0, entry(1))
    inboxes.put(0, entry(1))
    for _ in range(2):
        assert inboxes.next(-1) == 0
        inboxes.take(0)
        inboxes.queue(0)
    assert inboxes.next(-1) is None


def test_an_inbox_is_full_by_what_its_blocks_weigh() -> None:
    inboxes = Inboxes([0])
    inboxes.put(0, entry(INBOX_ROWS))
    inboxes.put(0, (0, 5, 0, 0))
    assert not inboxes.full(0)
    inboxes.put(0, entry(1))
    assert inboxes.full(0)
    taken = inboxes.take(0)
    assert taken is not None
    assert not inboxes.full(0)
    inboxes.put_back(0, taken)
    assert inboxes.full(0)


def test_a_stage_with_a_barrier_goes_first_while_no_stage_is_at_work() -> None:
    inboxes = Inboxes(range(4))
    for stage in (1, 2, 3):
        inboxes.put(stage, entry(1))
    for stage in (2, 1):
        inboxes.put(stage, (-1, Barrier(1), 0, 0))
    assert inboxes.next(-1) == 1
    assert [inboxes.next(1), inboxes.next(1), inboxes.next(1)] == [3, 2, None]
    inboxes.queue(2)
    assert inboxes.next(-1) == 1
    for _ in range(2):
        inboxes.take(1)
    assert inboxes.next(-1) == 2  # the barrier is through the first
    for _ in range(2):
        inboxes.take(2)
    assert inboxes.next(-1) is None
