"""What a keyed step's snapshot holds, and what it refuses to take back."""

from __future__ import annotations

import base64
import gc
import pickle
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import on_timer
from apache_beam.transforms.window import FixedWindows, GlobalWindows, IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from sage.errors import CheckpointError
from sage.runners.engine.checkpoint.snapshot import RootState, StageState
from sage.runners.engine.core.blocks import MIN_MICROS, NO_FIRING
from sage.runners.engine.operators.keyed.chunks import Chunk, StateSchema, write_chunk
from sage.runners.engine.operators.keyed.timers import Timer, TimerChanges
from tests.models.keyed_workers import KeyedWorkers

COUNT = userstate.ReadModifyWriteStateSpec("count", coders.VarIntCoder())


class Count(beam.DoFn):
    """Counts the elements of a key; "clear" forgets the count."""

    def process(self, element: Any, count: Any = beam.DoFn.StateParam(COUNT)) -> Iterator[Any]:
        key, what = element
        if what == "clear":
            count.clear()
        else:
            count.write((count.read() or 0) + 1)
            yield key, count.read()


def of(dofn: beam.DoFn, window: Any = None, **how: Any) -> KeyedWorkers:
    return KeyedWorkers(beam.ParDo(dofn), window or GlobalWindows(), **how)


def keyed_of(engine: KeyedWorkers, whole: bool = False) -> tuple[bool, int]:
    """Whether a snapshot is whole, and how many bytes it has."""
    root = engine.tasks[0].snapshot(1, whole).root
    return root.whole, len(root.keyed or b"")


def test_a_snapshot_holds_what_changed_since_the_one_before() -> None:
    engine = of(Count())
    engine.process([((key, 1), 0) for key in range(1000)])
    first, size = keyed_of(engine)
    assert first  # there is none before it
    assert size > 2000
    engine.process([((7, 1), 0)])
    whole, one = keyed_of(engine)
    assert not whole
    assert 0 < one < size / 10
    assert keyed_of(engine) == (False, 0)
    assert keyed_of(engine, whole=True)[1] > 2000


def test_a_job_without_checkpoints_notes_nothing() -> None:
    engine = of(Count(), checkpoints=False)
    engine.process([((key, 1), 0) for key in range(10)])
    (cells,) = engine.tasks[0].root._state._cells.values()  # type: ignore[attr-defined]
    assert cells.touched == []


def test_a_key_that_was_cleared_is_told_once_and_takes_no_room() -> None:
    engine = of(Count())
    engine.process([((1, 1), 0), ((2, 1), 0)])
    engine.checkpoint()
    engine.process([((1, "clear"), 0)])
    engine.checkpoint()
    (cells,) = engine.tasks[0].root._state._cells.values()  # type: ignore[attr-defined]
    assert [cell.identity for cell in cells] == [2]
    assert keyed_of(engine) == (False, 0)
    engine.crash(1)
    assert engine.process([((1, 1), 0), ((2, 1), 0)]) == [(1, 1), (2, 2)]


def test_cells_that_are_empty_go_by_and_by_without_checkpoints() -> None:
    engine = of(Count(), checkpoints=False)
    state: Any = engine.tasks[0].root._state  # type: ignore[attr-defined]
    state.most_made = 100
    for start in range(0, 1000, 50):
        engine.process([((key, what), 0) for key in range(start, start + 50) for what in (1, "clear")])
    state.trim(None)
    assert not any(state._cells.values())


def test_windows_that_are_over_are_not_told() -> None:
    engine = of(Count(), FixedWindows(10))
    engine.process([((key, 1), stamp) for key in range(100) for stamp in (5, 15)])
    engine.checkpoint(whole=True)
    engine.advance(12)
    before = keyed_of(engine, whole=True)[1]
    engine.advance(22)
    assert keyed_of(engine, whole=True)[1] < before


def test_what_nobody_asked_for_since_it_was_restored_is_told_again() -> None:
    engine = of(Count(), FixedWindows(10))
    engine.process([((key, 1), stamp) for key in range(3) for stamp in (5, 15)])
    for _ in range(2):
        engine.checkpoint(whole=True)
        engine.crash(1)
        assert engine.process([((1, 1), 15)])  # one cell of one window is awake
    engine.checkpoint(whole=True)
    engine.crash(1)
    told = engine.process([((key, 1), stamp) for key in range(3) for stamp in (5, 15)])
    assert sorted(told) == [(0, 2), (0, 2), (1, 2), (1, 4), (2, 2), (2, 2)]


class Renamed(beam.DoFn):
    def process(
        self,
        element: Any,
        total: Any = beam.DoFn.StateParam(userstate.ReadModifyWriteStateSpec("total", coders.VarIntCoder())),
    ) -> None:
        """Nothing to do."""


def test_a_state_that_the_step_does_not_declare_is_refused_by_name() -> None:
    engine = of(Count())
    engine.process([((1, 1), 0)])
    data = engine.tasks[0].snapshot(1, True).root.keyed
    assert data is not None
    other = of(Renamed())
    with pytest.raises(CheckpointError, match=r"step 'keyed': .* holds state 'count', .* \(it declares: 'total'\)"):
        other.tasks[0].restore(StageState(MIN_MICROS, RootState(keyed=[[data]])))


class Timed(beam.DoFn):
    TIMER = userstate.TimerSpec("timer", TimeDomain.WATERMARK)

    def process(self, element: Any, timer: Any = beam.DoFn.TimerParam(TIMER)) -> None:
        timer.set(element[1])

    @userstate.on_timer(TIMER)
    def fired(self, key: Any = beam.DoFn.KeyParam) -> Iterator[Any]:
        yield key


def test_a_timer_that_the_step_does_not_declare_is_refused_by_name() -> None:
    engine = of(Timed())
    engine.process([((1, 10), 0)])
    data = engine.tasks[0].snapshot(1, True).root.keyed
    assert data is not None
    with pytest.raises(CheckpointError, match="holds timer 'timer', which the step does not declare"):
        of(Count()).tasks[0].restore(StageState(MIN_MICROS, RootState(keyed=[[data]])))


def test_a_timer_holds_the_watermark_after_it_was_taken_back() -> None:
    engine = of(Timed())
    engine.process([((1, 10), 0)])
    engine.checkpoint()
    engine.crash(2)
    assert min(task.root.hold() for task in engine.tasks) == 10_000_000
    assert engine.advance(10) == [1]


def test_a_timer_set_behind_the_watermark_fires_without_waiting_for_it() -> None:
    engine = of(Timed())
    engine.advance(100)
    assert engine.process([((1, 10), 0)]) == [1]


class Opaque:
    """Pickled by nobody, encoded by its coder."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class OpaqueCoder(coders.Coder):
    def encode(self, value: Opaque) -> bytes:
        return str(value.number).encode()

    def decode(self, encoded: bytes) -> Opaque:
        return Opaque(int(encoded))


class Holds(beam.DoFn):
    def process(
        self,
        element: Any,
        bag: Any = beam.DoFn.StateParam(userstate.BagStateSpec("bag", OpaqueCoder())),
    ) -> Iterator[Any]:
        bag.add(Opaque(element[1]))
        yield [held.number for held in bag.read()]


def test_values_of_a_type_with_a_coder_go_by_it() -> None:
    engine = of(Holds())
    engine.process([(("key", 1), 0)])
    engine.checkpoint()
    engine.crash(2)
    assert engine.process([(("key", 2), 0)]) == [[1, 2]]


def test_files_of_a_store_are_no_state_in_memory(tmp_path: Path) -> None:
    state = RootState(files=[{"a.000001.sst": str(tmp_path / "file")}])
    with pytest.raises(CheckpointError, match="--state_backend=rocksdb"):
        of(Count()).tasks[0].restore(StageState(MIN_MICROS, state))


FORMAT_1 = (
    "eJyFT7FOw0AMvaM62oWhgoENxlsaiW/IhE5CCIkxqq6NUSOVpGouKQtSpraDN14Rn4svKioLwovt9/ye7c4cnrXqwzqdwabjQv2Or88OP5jU"
    "Mem7iQK9w/I5tVSGGqJzymlKrztzuDgqBWTtwXoOSpDeCHV1oqJEs34DZXBnXiZ24EHe0D9ms97sUqjRiXLDh96giQ/8LZPO8jDUk6qlNZxi"
    "BWec4Vu/8vMFTWfkX5MmFMs62RRlXm0on7Z+KTfx6NGXdF++VPiA3e/dQE5UAU8IWIzjI0HW0xap6UyGuGoLCki+AQtPZVE="
)
"""A chunk of the format that has timers in rows, as an earlier version wrote it."""


def declared() -> StateSchema:
    states = [userstate.BagStateSpec("events", coders.PickleCoder()), userstate.ReadModifyWriteStateSpec("due", VARINT)]
    over = userstate.TimerSpec("over", TimeDomain.WATERMARK)
    window = FixedWindows(10).get_window_coder()
    return StateSchema("s", {state.name: state for state in states}, {over.name: over}, coders.StrUtf8Coder(), window)


VARINT = coders.VarIntCoder()


def test_a_chunk_of_an_earlier_version_is_read() -> None:
    chunk = Chunk(declared(), zlib.decompress(base64.b64decode(FORMAT_1)))
    first, second = IntervalWindow(Timestamp(0), Timestamp(10)), IntervalWindow(Timestamp(10), Timestamp(20))
    assert [*chunk.cells()] == [
        ("events", first, ["a"], [[1, "x"]]),
        ("events", second, ["c"], [[2]]),
        ("due", first, ["a"], [7]),
        ("due", second, ["b"], [None]),
    ]
    (event, spec, key, window, tag, timer), (*_, gone) = chunk.timers()
    assert (event, spec.name, key, window, tag) == (True, "ts-over", "a", first, "")
    assert (timer.fire, timer.hold, gone) == (5, 5, None)  # type: ignore[union-attr]


def test_a_chunk_of_a_later_version_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"another version of Sage \(format 3, this one reads 1 to 2\)"):
        Chunk(declared(), pickle.dumps((3, [], {}, []), 5))


def test_states_and_timers_of_the_same_keys_have_their_keys_once() -> None:
    step, keys = declared(), [f"key-{number:04}" for number in range(1000)]
    window = IntervalWindow(Timestamp(0), Timestamp(10))
    over = step.timers["ts-over"]
    timers = [Timer(over, key, window, "", at, at, NO_FIRING, at) for at, key in enumerate(keys)]
    changes = TimerChanges([], [(over.name, key, window, "") for key in keys], timers)
    none = TimerChanges([], [], [])
    cells = [(window, {"events": (keys, [[at] for at in range(1000)]), "due": (keys, [*range(1000)])})]
    data = write_chunk(step, cells, (changes, none))
    assert data.count(b"key-0999") == 1
    chunk = Chunk(step, data)
    assert [(name, found, contents[999]) for name, _, found, contents in chunk.cells()] == [
        ("events", keys, [999]),
        ("due", keys, 999),
    ]
    assert [(key, timer) for _, _, key, _, _, timer in chunk.timers()] == [*zip(keys, timers, strict=True)]


def test_a_step_that_is_closed_lets_go_of_its_state() -> None:
    """Not by the collector of cycles, which would look at all of it first."""
    engine = of(Remembered())
    engine.process([((key, Value()), 0) for key in range(100)])
    assert len(VALUES) == 100
    gc.disable()
    try:
        engine.close()
        assert len(VALUES) == 0
    finally:
        gc.enable()


class Value:
    """A value whose life can be watched."""

    def __init__(self) -> None:
        VALUES.add(self)


VALUES: weakref.WeakSet[Value] = weakref.WeakSet()


class Remembered(beam.DoFn):
    """Keeps a value, and a timer that is never due."""

    KEPT = userstate.BagStateSpec("kept", coders.PickleCoder())
    TIMER = userstate.TimerSpec("timer", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        kept: Any = beam.DoFn.StateParam(KEPT),
        timer: Any = beam.DoFn.TimerParam(TIMER),
    ) -> None:
        kept.add(element[1])
        timer.set(1_000)

    @on_timer(TIMER)
    def never(self) -> None:
        raise AssertionError("it is never due")
