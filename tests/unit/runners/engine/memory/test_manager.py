"""What is too much for memory: who gives way, what goes to disk, and how it comes back."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, Repeatedly
from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, SlidingWindows, TimestampedValue

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, Block
from sage.runners.engine.memory.manager import MemoryManager, cut, pieces
from sage.runners.engine.memory.runs import SpilledValues, merge_runs, write_run
from sage.runners.engine.operators.grouping.group import GroupRoot
from sage.runners.engine.serde.values import Codec
from sage.runners.local import LocalRunner
from tests.models.harness import INPUT, OUTPUT, Harness
from tests.models.spill_store import MemoryStore

GENERAL = coders.FastPrimitivesCoder()
STEP = spec.GroupByKey(spec.StepId("g"), "group", (INPUT,), {None: OUTPUT})


def same(key: Any) -> Any:
    return key


def spilled(groups: dict[Any, list[Any]], value_coder: Any = GENERAL, runs: int = 3) -> Iterator[Any]:
    """Groups written in as many runs, and merged."""
    memory, codec = MemoryManager(0, MemoryStore()), Codec(GENERAL, value_coder)
    parts = [{key: values[n::runs] for key, values in groups.items() if values[n::runs]} for n in range(runs)]
    return merge_runs([write_run(part, same, codec, memory) for part in parts], codec, memory.list_bytes)


# Groups.


def test_a_large_group_is_read_from_disk_as_often_as_one_likes() -> None:
    groups = dict(spilled({"large": list(range(9_000)), "small": [1, 2, 3]}))
    large = groups["large"]
    assert isinstance(large, SpilledValues)
    expected = [*range(0, 9_000, 3), *range(1, 9_000, 3), *range(2, 9_000, 3)]
    assert list(large) == list(large) == expected
    assert len(large) == 9_000
    assert 8_999 in large
    outer = iter(large)
    assert [next(outer), next(outer), *[next(iter(large)) for _ in range(3)], next(outer)] == [0, 3, 0, 0, 0, 6]
    assert repr(large) == "<9000 values on disk>"


class Event(NamedTuple):
    name: str
    at: int


def test_named_tuples_come_back_as_such_and_values_on_disk_stay_where_they_are() -> None:
    codec = Codec(GENERAL, GENERAL)
    groups: list[Any] = [[], [Event("a", 1), None], [Event("b", 2)], (7, 8), [[1]]]
    data = codec.pack([*range(5)], None, groups)
    found = codec.unpack(data)
    assert found == ([*range(5)], None, groups)
    assert [type(group) for group in found[2]] == [list, list, list, tuple, list]
    assert type(found[2][1][0]) is Event
    assert codec.unpack(pickle.dumps((False, [*range(5)], None, groups), 5)) == found  # as earlier versions wrote it
    values = {number: [Event(str(number), at) for at in range(3)] for number in range(500)}
    assert dict(spilled(values)) == values


def test_a_small_group_is_a_list() -> None:
    groups = dict(spilled({n: [n, str(n), None] for n in range(500)}))
    assert groups == {n: [n, str(n), None] for n in range(500)}
    assert {type(values) for values in groups.values()} == {list}


@pytest.mark.parametrize("coder", [GENERAL, coders.IterableCoder(coders.VarIntCoder()), coders.PickleCoder()])
def test_where_it_is_encoded_a_large_group_becomes_a_list(coder: Any) -> None:
    ((_, large),) = spilled({"large": list(range(9_000))}, runs=1)
    assert isinstance(large, SpilledValues)
    assert list(coder.decode(coder.encode(large))) == list(range(9_000))
    assert pickle.loads(pickle.dumps(large)) == list(range(9_000))


class Handle:
    """Refuses to be pickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("a handle cannot be pickled")


class HandleCoder(coders.Coder):
    """Knows how to write a handle."""

    def encode(self, value: Handle) -> bytes:
        return str(value.number).encode()

    def decode(self, encoded: bytes) -> Handle:
        return Handle(int(encoded))

    def is_deterministic(self) -> bool:
        return True


def test_values_with_a_coder_of_their_own_go_by_it() -> None:
    groups = dict(spilled({"k": [Handle(n) for n in range(2_000)]}, HandleCoder()))
    assert sorted(handle.number for handle in groups["k"]) == list(range(2_000))


def test_keys_that_do_not_stand_for_themselves_come_back() -> None:
    def make(output: Any, context: Any) -> Any:
        return GroupRoot(STEP, output, context)

    harness = Harness(make, Windowing(GlobalWindows()), limit=0)
    for key in (True, 1, 1.0, (1,), (True,), [1], "1"):
        for n in range(2):
            harness.root.process_block(0, Block([(key, n)]))
    harness.advance(MAX_MICROS)
    found = sorted(((repr(key), list(values)) for (key, values), _ in harness.rows()))
    assert found == sorted((repr(key), [0, 1]) for key in (True, 1, 1.0, (1,), (True,), [1], "1"))


# Memory.


class Holder:
    """Spills all it holds, and counts how often."""

    used_bytes = 0

    def __init__(self, memory: MemoryManager) -> None:
        self.memory = memory
        self.spills = 0
        memory.register(self)

    def spill(self) -> None:
        self.spills += 1
        self.memory.shrink(self, self.used_bytes)


def test_who_holds_most_gives_way() -> None:
    memory = MemoryManager(400, MemoryStore())  # of which 300 for what is held
    small, large = Holder(memory), Holder(memory)
    memory.grow(large, 200)
    memory.grow(small, 100)
    assert (small.spills, large.spills) == (0, 0)
    memory.grow(small, 1)
    assert (small.spills, large.spills, memory.total) == (0, 1, 101)


def test_what_is_on_its_way_out_counts_until_it_is_gone() -> None:
    memory = MemoryManager(400, MemoryStore())
    firing, other = Holder(memory), Holder(memory)
    memory.grow(firing, 250)
    memory.begin_release(firing, 250)
    memory.grow(other, 100)
    assert (firing.spills, other.spills, memory.total) == (0, 1, 250)
    memory.end_release(250)
    memory.grow(other, 100)
    assert (other.spills, memory.total) == (1, 100)


def test_runs_too_short_to_be_worth_it_are_not_written() -> None:
    memory = MemoryManager(400, MemoryStore())
    firing, other = Holder(memory), Holder(memory)
    memory.grow(firing, 300)
    memory.begin_release(firing, 300)
    memory.grow(other, 10)
    assert other.spills == 0


def test_without_a_limit_or_without_a_store_nothing_is_counted() -> None:
    assert not MemoryManager().limited
    assert not MemoryManager(10).limited
    assert not MemoryManager(None, MemoryStore()).limited


# Blocks.


def test_rows_are_cut_by_count_and_by_size() -> None:
    rows = [(n, b"x" * 1_000) for n in range(10)]
    assert [len(piece) for piece in pieces(rows, 4, 1 << 20)] == [4, 4, 2]
    assert [len(piece) for piece in pieces(rows, 100, 3_000)] == [3, 3, 3, 1]
    assert [len(piece) for piece in cut(rows, 1 << 20)] == [10]
    assert sum(len(piece) for piece in cut(rows, 3_000)) == 10
    assert len(list(cut(rows, 3_000))) > 2


# Whole jobs.


def keep(pair: Any, window: Any = beam.DoFn.WindowParam, stamp: Any = beam.DoFn.TimestampParam) -> str:
    key, values = pair
    return repr((key, sorted(values) if isinstance(values, Iterable) else values, str(window), str(stamp)))


WINDOWINGS = {
    "global": lambda: beam.WindowInto(GlobalWindows()),
    "fixed": lambda: beam.WindowInto(FixedWindows(50)),
    "sliding": lambda: beam.WindowInto(SlidingWindows(200, 100)),
    "sessions": lambda: beam.WindowInto(Sessions(2)),
    "counted": lambda: beam.WindowInto(
        FixedWindows(200), trigger=Repeatedly(AfterCount(5)), accumulation_mode=AccumulationMode.DISCARDING
    ),
}
GROUPINGS = {"group": beam.GroupByKey, "sum": lambda: beam.CombinePerKey(sum)}


@pytest.mark.parametrize("windowing", WINDOWINGS)
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_a_job_that_spills_gives_what_it_gives_in_memory(windowing: str, grouping: str, tmp_path: Path) -> None:
    data = [([1, True, 1.0, "1", None, (1, "a"), b"1"][n * 7 % 11 % 7], n * 31 % 401, n) for n in range(1_200)]
    found = []
    for name, options in (("memory", []), ("disk", ["--memory_limit=4KB", f"--spill_dir={tmp_path / 'spilled'}"])):
        with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(options)) as pipeline:
            (
                pipeline
                | beam.Create(data)
                | "stamp" >> beam.Map(lambda row: TimestampedValue((row[0], row[2]), row[1]))
                | WINDOWINGS[windowing]()
                | GROUPINGS[grouping]()
                | "keep" >> beam.Map(keep)
                | "all" >> beam.WindowInto(GlobalWindows())
                | beam.io.WriteToText(str(tmp_path / name), shard_name_template="")
            )
        found.append(sorted((tmp_path / name).read_text().splitlines()))
    assert found[0] == found[1]
    assert len(found[0]) > 5
    spilled_to = tmp_path / "spilled"
    if grouping == "group":  # seven sums fit anywhere
        assert list(spilled_to.iterdir()) == [], "it spilled, and left nothing"
