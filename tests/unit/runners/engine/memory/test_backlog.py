"""Blocks that wait come back as they were, in order, from memory and from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.window import FixedWindows, GlobalWindows, IntervalWindow, SlidingWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.memory.backlog import Backlog
from sage.runners.engine.memory.manager import MemoryManager
from sage.runners.local import LocalRunner
from tests.models.spill_store import MemoryStore

WINDOWS = (IntervalWindow(0, 10), IntervalWindow(10, 20))
PANE = PaneInfo(True, False, 1, 0, 0)
BLOCKS = [
    (0, Block(["a", "b"], Timestamp(5), WINDOWS, PANE)),
    (1, Block([1, True, 1.0], [Timestamp(3), Timestamp(4), Timestamp(9)], [WINDOWS[:1], WINDOWS, WINDOWS[1:]])),
    (0, Block([b"x" * 1000] * 5, Timestamp(7), [WINDOWS[:1]] * 5, [PANE] * 5)),
]


def backlog(limit: int | None) -> tuple[Backlog, MemoryManager, MemoryStore]:
    store = MemoryStore()
    memory = MemoryManager(limit, store)
    collection = spec.Collection(spec.CollectionId("c"), "c", coders.FastPrimitivesCoder(), Windowing(GlobalWindows()))
    return Backlog([collection, collection], memory), memory, store


def rows(blocks: Any) -> list[Any]:
    return [(port, [(repr(value), *rest) for value, *rest in block.rows()]) for port, block in blocks]


@pytest.mark.parametrize("limit", [None, 0, 3_000, 1 << 30])
def test_blocks_come_back_as_they_were(limit: int | None) -> None:
    waiting, memory, store = backlog(limit)
    assert not waiting
    for port, block in BLOCKS * 3:
        waiting.append(port, block)
    assert waiting
    assert waiting.earliest == 3_000_000
    assert bool(store.written) == (limit in (0, 3_000))
    assert rows(waiting.take()) == rows(BLOCKS * 3)
    assert not waiting
    assert (memory.total, waiting.used_bytes, waiting.earliest) == (0, 0, MAX_MICROS)
    assert not store.areas


@pytest.mark.parametrize("limit", [None, 0])
def test_what_is_put_back_while_blocks_are_taken_waits_for_the_next_time(limit: int | None) -> None:
    waiting, _, _ = backlog(limit)
    for port, block in BLOCKS:
        waiting.append(port, block)
    for port, block in waiting.take():
        waiting.append(port, block)
    assert rows(waiting.take()) == rows(BLOCKS)


@pytest.mark.parametrize("options", [[], ["--memory_limit=20KB"]])
def test_elements_wait_for_the_side_input_of_their_windows(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "spilled"
    with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([*options, f"--spill_dir={folder}"])) as pipeline:
        main = (
            pipeline
            | beam.Create(range(2_000))
            | beam.Map(lambda number: TimestampedValue(number, number % 100))
            | "main" >> beam.WindowInto(SlidingWindows(20, 10))
        )
        side = (
            main
            | "side" >> beam.WindowInto(FixedWindows(10))
            | beam.CombineGlobally(beam.combiners.CountCombineFn()).without_defaults()
        )
        pairs = main | "pair" >> beam.Map(lambda number, counts: (number, list(counts)), beam.pvalue.AsIter(side))
        # Each element was in two windows, so each fixed window counts its 200 elements twice; a sliding window reads
        # the fixed window that its end lies in, and the last of them ends where no element is.
        expected = [
            (number, [400] if end <= 100 else [])
            for number in range(2_000)
            for end in (number % 100 // 10 * 10 + 10, number % 100 // 10 * 10 + 20)
        ]
        assert_that(pairs | "all" >> beam.WindowInto(GlobalWindows()), equal_to(expected))
    assert folder.exists() == bool(options), "it spilled where there was a limit"
