"""Keyed state over a store: what stays in memory is bounded, what is over or expired leaves the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from sage.runners.engine.operators.keyed.store_backed_state import SETTLES
from sage.runners.state.rocks import RocksBackend
from sage.statespecs import MapStateSpec, Ttl, ValueWithTtl, stamped
from tests.models.keyed_workers import KeyedWorkers, Stores

pytest.importorskip("rocksdict")

GENERAL = coders.FastPrimitivesCoder()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[[], Stores]]:
    """Stores that hold some 30 cells in memory."""
    backends = []

    def make() -> Stores:
        backends.append(RocksBackend(tempfile.mkdtemp(dir=tmp_path), cells_bytes=80_000))
        return backends[-1].store

    yield make
    for backend in backends:
        backend.close()


def rows_of(engine: KeyedWorkers) -> list[bytes]:
    """The rows in the store of the only worker, after what is in memory was written."""
    state: Any = engine.tasks[0].root._state  # type: ignore[attr-defined]
    state._flush()
    return [row for row, _ in state._store.scan(b"", b"\xff" * 9)]


class Count(beam.DoFn):
    COUNT = userstate.ReadModifyWriteStateSpec("count", coders.VarIntCoder())

    def process(self, element: Any, count: Any = beam.DoFn.StateParam(COUNT)) -> Iterator[Any]:
        count.write((count.read() or 0) + 1)
        yield element[0], count.read()


def test_few_cells_are_in_memory_and_all_are_there(stores: Any) -> None:
    engine = KeyedWorkers(beam.ParDo(Count()), GlobalWindows(), stores=stores)
    for start in range(0, 2000, 20):
        engine.process([((key, 1), 0) for key in range(start, start + 20)])
    state: Any = engine.tasks[0].root._state  # type: ignore[attr-defined]
    assert sum(map(len, [*state._cells.values(), *state._restored_cells.values()])) < 200
    assert {count for _, count in engine.process([((key, 1), 0) for key in range(2000)])} == {2}
    assert len(rows_of(engine)) == 2000


def test_a_job_without_checkpoints_notes_no_timers(stores: Any) -> None:
    engine = KeyedWorkers(beam.ParDo(Timed()), GlobalWindows(), stores=stores, checkpoints=False)
    engine.process([((key, 1), 0) for key in range(10)])
    state: Any = engine.tasks[0].root._state  # type: ignore[attr-defined]
    assert not state.event_timers._gone
    assert engine.advance(2) == [("event", key) for key in range(10)]


def test_rows_of_windows_that_are_over_are_removed(stores: Any) -> None:
    engine = KeyedWorkers(beam.ParDo(Count()), FixedWindows(10), stores=stores)
    engine.process([((key, 1), stamp) for key in range(50) for stamp in (5, 15)])
    engine.advance(12)
    for _ in range(SETTLES):
        engine.checkpoint()
    assert len(rows_of(engine)) == 50
    assert engine.process([((1, 1), 16)]) == [(1, 2)]


class Mapped(beam.DoFn):
    MAP = MapStateSpec("map", GENERAL, GENERAL)

    def process(self, element: Any, entries: Any = beam.DoFn.StateParam(MAP)) -> Iterator[Any]:
        _, (what, *args) = element
        found = getattr(entries, what)(*args)
        if found is not None:
            yield sorted(found) if what in ("keys", "items") else found


def test_a_map_has_a_row_for_each_entry(stores: Any) -> None:
    engine = KeyedWorkers(beam.ParDo(Mapped()), GlobalWindows(), stores=stores)
    engine.process([(("key", ("put", number, str(number))), 0) for number in range(500)])
    engine.process([(("other", ("put", 1, "1")), 0)])
    assert len(rows_of(engine)) == 501
    engine.process([(("key", ("remove", 5)), 0)])
    assert len(rows_of(engine)) == 500
    ((keys,), (found,)) = (engine.process([(("key", what), 0)]) for what in (("keys",), ("get", 7)))
    assert len(keys) == 499
    assert found == "7"
    engine.process([(("key", ("clear",)), 0)])
    assert len(rows_of(engine)) == 1


def test_an_entry_is_read_without_the_others(stores: Any) -> None:
    engine = KeyedWorkers(beam.ParDo(Mapped()), GlobalWindows(), stores=stores)
    engine.process([(("key", ("put", number, number)), 0) for number in range(500)])
    engine.checkpoint()
    for other in range(200):  # what was in memory of the map is let go of
        engine.process([((other, ("put", 1, 1)), 0)])
    assert engine.process([(("key", ("get", 7)), 0), (("key", ("contains", 1000)), 0)]) == [7, False]
    state: Any = engine.tasks[0].root._state  # type: ignore[attr-defined]
    (cell,) = (cell for cell in state._window_cells if cell.identity == "key")
    assert len(cell._entries) == 2


class Mortal(beam.DoFn):
    """Writes with the instant that the element says; lives ten seconds."""

    VALUE = ValueWithTtl("value", GENERAL, Ttl(10_000, event_time=True))
    MAP = MapStateSpec("map", GENERAL, stamped(GENERAL), Ttl(10_000, event_time=True))

    def process(
        self, element: Any, value: Any = beam.DoFn.StateParam(VALUE), entries: Any = beam.DoFn.StateParam(MAP)
    ) -> None:
        _, instant = element
        value.write((instant, "x"))
        entries.put(instant, (instant, "x"))


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_what_expired_goes_in_the_background(stores: Any, backend: str) -> None:
    engine = KeyedWorkers(beam.ParDo(Mortal()), GlobalWindows(), stores=stores if backend == "rocksdb" else None)
    engine.process([((key, 0), 0) for key in range(20)])
    engine.process([((0, 15_000), 0)])
    engine.advance(12)
    engine.checkpoint(whole=True)
    if backend == "rocksdb":
        # The value of key 0 and its one entry that lives.
        assert len(rows_of(engine)) == 2
    else:
        (cells,) = engine.tasks[0].root._state._cells.values()  # type: ignore[attr-defined]
        assert sorted(cell.name for cell in cells) == ["map", "value"]
        assert [list(cell.items()) for cell in cells if cell.name == "map"] == [[(15_000, (15_000, "x"))]]


class Timed(beam.DoFn):
    EVENT = userstate.TimerSpec("event", TimeDomain.WATERMARK)
    CLOCK = userstate.TimerSpec("clock", TimeDomain.REAL_TIME)

    def process(
        self, element: Any, event: Any = beam.DoFn.TimerParam(EVENT), clock: Any = beam.DoFn.TimerParam(CLOCK)
    ) -> None:
        event.set(element[1])
        clock.set(1000 - element[1])

    @userstate.on_timer(EVENT)
    def fired(self, key: Any = beam.DoFn.KeyParam) -> Iterator[Any]:
        yield "event", key

    @userstate.on_timer(CLOCK)
    def rang(self, key: Any = beam.DoFn.KeyParam) -> Iterator[Any]:
        yield "clock", key


def test_timers_that_fire_late_are_in_the_store_and_fire_in_order(stores: Any) -> None:
    engine = KeyedWorkers(beam.ParDo(Timed()), FixedWindows(1000), stores=stores)
    keys = [number * 7 % 500 for number in range(500)]
    engine.process([((key, key + 1), 10 + key) for key in keys])
    state: Any = engine.tasks[0].root._state  # type: ignore[attr-defined]
    assert len(state.event_timers._current) + len(state.clock_timers._current) < 100
    assert engine.tasks[0].root.hold() == 1_000_000  # the first timer of event time
    assert engine.advance(300) == [("event", key) for key in range(300)]
    assert engine.tasks[0].root.hold() == 10_000_000  # the least timestamp of the elements that set the others
    assert engine.at(900) == [("clock", key) for key in range(499, 98, -1)]
    assert engine.advance(600) == [("event", key) for key in range(300, 500)]
    assert engine.at(1000) == [("clock", key) for key in range(98, -1, -1)]
    assert rows_of(engine) == []
