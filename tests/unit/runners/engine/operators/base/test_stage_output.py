"""What leaves a stage: in blocks that grow, and in a stream none waits for others for long."""

from __future__ import annotations

import pytest
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core.blocks import GLOBAL_WINDOWS, NO_FIRING, Block, TimestampColumn
from sage.runners.engine.core.spec import CollectionId
from sage.runners.engine.operators.base.context import JobContext, JobOptions, TaskContext, VirtualClock
from sage.runners.engine.operators.base.stage_output import StageOutput

BUNDLE_MICROS = 50_000


class Edge:
    """An edge, and what left it."""

    def __init__(self, streams: bool) -> None:
        self.clock = VirtualClock()
        self.blocks: list[Block] = []
        options = JobOptions(bundle_micros=BUNDLE_MICROS, block_rows=1_000)
        job = JobContext(self.clock, options)
        self.op = StageOutput(
            CollectionId("c"), TaskContext(job, {}, lambda _, block: self.blocks.append(block), streams=streams)
        )
        self.op.start_bundle()

    def give(self, count: int, micros: int, listed: bool = False) -> list[int]:
        """So many elements, each after so long, singly or as they are ``listed``; the sizes of the blocks that left."""
        before = len(self.blocks)
        for number in range(count):
            self.clock.micros += micros
            if listed:
                self.op.append([number], Timestamp(0), GLOBAL_WINDOWS, NO_FIRING)
            else:
                self.op.process(WindowedValue(number, Timestamp(0), GLOBAL_WINDOWS, NO_FIRING))
        return [len(block) for block in self.blocks[before:]]


@pytest.mark.parametrize("listed", [False, True])
def test_slow_elements_leave_as_they_come(listed: bool) -> None:
    assert Edge(streams=True).give(4, 2 * BUNDLE_MICROS, listed) == [1, 1, 1, 1]


def test_in_a_batch_they_wait_for_others() -> None:
    edge = Edge(streams=False)
    assert edge.give(63, 2 * BUNDLE_MICROS) == []
    assert edge.give(1, 0) == [64]


@pytest.mark.parametrize("listed", [False, True])
def test_fast_elements_leave_many_at_a_time_from_the_first(listed: bool) -> None:
    assert Edge(streams=True).give(64 + 256, 1, listed)[:2] == ([64, 1] if listed else [64, 256])


def test_a_block_has_what_comes_while_an_element_may_wait() -> None:
    edge = Edge(streams=True)
    edge.give(2_000, 1)
    assert edge.give(4_000, 1_000)[-1] <= 50
    assert max(edge.give(4_000, 10)[-3:]) == 1_000


@pytest.mark.parametrize("listed", [False, True])
def test_a_bundle_ends_with_all_of_it_gone(listed: bool) -> None:
    edge = Edge(streams=True)
    assert edge.give(3, 1, listed) == []
    edge.op.finish_bundle()
    assert [block.values for block in edge.blocks] == [[0, 1, 2]]


def test_lists_go_on_together_where_they_share_the_rest_and_in_order_where_they_do_not() -> None:
    edge = Edge(streams=True)
    edge.op.append([1], Timestamp(0), GLOBAL_WINDOWS, NO_FIRING)
    edge.op.append([2], Timestamp(0), GLOBAL_WINDOWS, NO_FIRING)
    edge.op.append([3], Timestamp(1), GLOBAL_WINDOWS, NO_FIRING)
    edge.op.process(WindowedValue(4, Timestamp(1), GLOBAL_WINDOWS, NO_FIRING))
    edge.op.append([5], TimestampColumn([5_000]), GLOBAL_WINDOWS, NO_FIRING)
    edge.op.append([6], TimestampColumn([6_000]), GLOBAL_WINDOWS, NO_FIRING)
    edge.op.process_block(Block([7]))
    assert [block.values for block in edge.blocks] == [[1, 2], [3], [4], [5, 6], [7]]
    stamps = edge.blocks[3].timestamps
    assert isinstance(stamps, TimestampColumn)
    assert list(stamps.micros) == [5_000, 6_000]


def test_lists_with_a_timestamp_each_grow_as_others_do() -> None:
    edge = Edge(streams=True)
    for number in range(1_000):
        count = edge.op.capacity()
        edge.op.append([number] * count, TimestampColumn([number] * count), GLOBAL_WINDOWS, NO_FIRING)
    assert edge.op.capacity() == 1_000
