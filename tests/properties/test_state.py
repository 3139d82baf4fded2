"""Random operations on every kind of state, with snapshots, crashes and changes of the number of workers between them,
give what a plain dict gives: in memory and in RocksDB, bound and general."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.statespecs import MapStateSpec
from tests.models.keyed_workers import KeyedWorkers

GENERAL = coders.FastPrimitivesCoder()
SIZE = 10


class Place(NamedTuple):
    """A key of a type that does not stand for itself."""

    street: str
    number: int


KEYS = [1, True, 1.0, "a", b"a", None, (1, "a"), (True, "a"), Place("a", 1), 2, 3, "key"]


class Everything(beam.DoFn):
    """Does what the element says, and puts out what it sees."""

    VALUE = userstate.ReadModifyWriteStateSpec("value", GENERAL)
    BAG = userstate.BagStateSpec("bag", coders.StrUtf8Coder())
    SET = userstate.SetStateSpec("set", GENERAL)
    SUM = userstate.CombiningValueStateSpec("sum", combine_fn=sum)
    LIST = userstate.OrderedListStateSpec("list", coders.VarIntCoder())
    MAP = MapStateSpec("map", GENERAL, coders.IterableCoder(coders.BytesCoder()))
    EVENT = userstate.TimerSpec("event", TimeDomain.WATERMARK)
    CLOCK = userstate.TimerSpec("clock", TimeDomain.REAL_TIME)

    def process(
        self,
        element: Any,
        value: Any = beam.DoFn.StateParam(VALUE),
        bag: Any = beam.DoFn.StateParam(BAG),
        distinct: Any = beam.DoFn.StateParam(SET),
        total: Any = beam.DoFn.StateParam(SUM),
        ordered: Any = beam.DoFn.StateParam(LIST),
        entries: Any = beam.DoFn.StateParam(MAP),
        event: Any = beam.DoFn.TimerParam(EVENT),
        clock: Any = beam.DoFn.TimerParam(CLOCK),
    ) -> Iterator[Any]:
        key, (what, *args) = element
        cells = {"value": value, "bag": bag, "set": distinct, "sum": total, "list": ordered, "map": entries}
        if what == "clear":
            cells[args[0]].clear()
        elif what == "write":
            value.write(args[0])
        elif what == "add":
            bag.add(str(args[0]))
            distinct.add(args[0])
            total.add(args[0])
            ordered.add((Timestamp(args[0] % 3), args[0]))
        elif what == "clear_range":
            ordered.clear_range(Timestamp(args[0]), Timestamp(args[0] + 1))
        elif what == "put":
            entries.put(args[0], [str(args[1]).encode()])
        elif what == "remove":
            entries.remove(args[0])
        elif what == "get":
            yield "get", key, [*entries.get(args[0], ())], entries.contains(args[0]), entries.is_empty()
        elif what == "timer":
            {"event": event, "clock": clock}[args[0]].set(Timestamp(args[2]), dynamic_timer_tag=args[1])
        elif what == "untimer":
            {"event": event, "clock": clock}[args[0]].clear(dynamic_timer_tag=args[1])
        elif what == "read":
            yield (
                "read", key, value.read(), list(bag.read()), sorted(distinct.read()), total.read(),
                [(float(stamp), number) for stamp, number in ordered.read()],
                sorted(((k, [*v]) for k, v in entries.items()), key=repr), sorted(entries.keys(), key=repr),
            )  # fmt: skip

    @userstate.on_timer(EVENT)
    def fired(
        self,
        key: Any = beam.DoFn.KeyParam,
        tag: Any = beam.DoFn.DynamicTimerTagParam,
        value: Any = beam.DoFn.StateParam(VALUE),
    ) -> Iterator[Any]:
        yield "event", key, tag, value.read()

    @userstate.on_timer(CLOCK)
    def rang(
        self,
        key: Any = beam.DoFn.KeyParam,
        tag: Any = beam.DoFn.DynamicTimerTagParam,
        value: Any = beam.DoFn.StateParam(VALUE),
    ) -> Iterator[Any]:
        yield "clock", key, tag, value.read()


class Held:
    """The state of one key and window."""

    def __init__(self) -> None:
        self.clear("value", "bag", "set", "sum", "list", "map")

    def clear(self, *names: str) -> None:
        empty = {"value": None, "bag": [], "set": [], "sum": 0, "list": [], "map": {}}
        for name in names:
            setattr(self, name, empty[name])


class Model:
    """What `Everything` does, with a dict."""

    def __init__(self, windowed: bool) -> None:
        self.windowed = windowed
        self.held: dict[Any, Held] = {}
        self.timers: dict[Any, tuple[Any, float]] = {}
        self.watermark = -1.0

    def _window(self, stamp: float) -> int:
        return int(stamp // SIZE) if self.windowed else 0

    def _over(self, window: int) -> bool:
        return self.windowed and (window + 1) * SIZE - 1e-6 < self.watermark

    def process(self, key: Any, operation: tuple[Any, ...], stamp: float) -> Any:
        window = self._window(stamp)
        if self._over(window):
            return None
        held = self.held.setdefault((repr(key), window), Held())
        what, *args = operation
        if what == "clear":
            held.clear(args[0])
        elif what == "write":
            held.value = args[0]
        elif what == "add":
            held.bag = [*held.bag, str(args[0])]
            held.set = [*{*held.set, args[0]}]
            held.sum += args[0]
            held.list = sorted([*held.list, (float(args[0] % 3), args[0])], key=lambda pair: pair[0])
        elif what == "clear_range":
            held.list = [pair for pair in held.list if pair[0] != args[0]]
        elif what == "put":
            held.map = {**held.map, repr(args[0]): (args[0], [str(args[1]).encode()])}
        elif what == "remove":
            held.map = {name: entry for name, entry in held.map.items() if name != repr(args[0])}
        elif what == "get":
            found = held.map.get(repr(args[0]), (None, []))[1]
            return "get", key, found, bool(found), not held.map
        elif what == "timer":
            self.timers[(args[0], repr(key), window, args[1])] = key, args[2]
        elif what == "untimer":
            self.timers.pop((args[0], repr(key), window, args[1]), None)
        elif what == "read":
            entries = sorted(held.map.values(), key=repr)
            return (
                "read", key, held.value, held.bag, sorted(held.set), held.sum, held.list, entries,
                sorted((k for k, _ in entries), key=repr),
            )  # fmt: skip
        return None

    def fire(self, kind: str, now: float) -> list[Any]:
        out = []
        for name, (key, at) in list(self.timers.items()):
            if name[0] == kind and at <= now:
                del self.timers[name]
                held = self.held.get((name[1], name[2]))
                out.append((kind, key, name[3], held.value if held else None))
        return out

    def advance(self, watermark: float) -> list[Any]:
        self.watermark = max(self.watermark, watermark)
        out = self.fire("event", self.watermark)
        self.held = {place: held for place, held in self.held.items() if not self._over(place[1])}
        return out


small = st.integers(0, 5)
entry_keys = st.sampled_from([1, True, "x", (1, 2), Place("b", 2)])
kinds = st.sampled_from(["event", "clock"])
tags = st.sampled_from(["", "t"])
operations = st.one_of(
    st.tuples(st.just("read")),
    st.tuples(st.just("write"), small),
    st.tuples(st.just("add"), small),
    st.tuples(st.just("put"), entry_keys, small),
    st.tuples(st.just("get"), entry_keys),
    st.tuples(st.just("remove"), entry_keys),
    st.tuples(st.just("clear"), st.sampled_from(["value", "bag", "set", "sum", "list", "map"])),
    st.tuples(st.just("clear_range"), st.integers(0, 2)),
    st.tuples(st.just("timer"), kinds, tags, st.integers(0, 60)),
    st.tuples(st.just("untimer"), kinds, tags),
)
elements = st.lists(st.tuples(st.sampled_from(KEYS), operations, st.integers(0, 39)), min_size=1, max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("process"), elements),
        st.tuples(st.just("process"), elements),
        st.tuples(st.just("advance"), st.integers(0, 50)),
        st.tuples(st.just("clock"), st.integers(0, 60)),
        st.tuples(st.just("checkpoint"), st.booleans()),
        st.tuples(st.just("crash"), st.integers(1, 3)),
    ),
    max_size=24,
)


def stores(folder: Path, stack: ExitStack) -> Any:
    """What makes the stores of one worker; they hold few cells in memory, so that most are read back."""
    rocks = pytest.importorskip("sage.runners.state.rocks")
    pytest.importorskip("rocksdict")

    def make() -> Any:
        backend = rocks.RocksBackend(tempfile.mkdtemp(dir=folder), cells_bytes=5_000)
        stack.callback(backend.close)
        return backend.store

    return make


@pytest.mark.parametrize("path", ["auto", "general"])
@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@given(steps=steps, windowed=st.booleans(), workers=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_state_is_what_a_dict_says(
    backend: str, path: str, steps: list[Any], windowed: bool, workers: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made = stores(Path(folder), stack) if backend == "rocksdb" else None
        window = FixedWindows(SIZE) if windowed else GlobalWindows()
        step = beam.ParDo(Everything())
        engine = KeyedWorkers(step, window, workers, made, Path(folder), path)
        stack.callback(engine.close)
        model, clock = Model(windowed), 0.0
        kept = copy.deepcopy(model), clock
        engine.checkpoint(whole=True)
        for what, argument in [*steps, ("crash", workers), ("process", [(k, ("read",), 39) for k in KEYS])]:
            if what == "process":
                expected = [model.process(*element) for element in argument]
                expected += [*model.fire("event", model.watermark), *model.fire("clock", clock)]
                found = engine.process([((key, operation), stamp) for key, operation, stamp in argument])
                assert sorted(found, key=repr) == sorted((out for out in expected if out), key=repr)
            elif what == "advance":
                assert sorted(engine.advance(argument), key=repr) == sorted(model.advance(argument), key=repr)
            elif what == "clock":
                clock = max(clock, argument)
                assert sorted(engine.at(clock), key=repr) == sorted(model.fire("clock", clock), key=repr)
            elif what == "checkpoint":
                engine.checkpoint(argument)
                kept = copy.deepcopy(model), clock
            else:
                engine.crash(argument)
                model, clock = copy.deepcopy(kept[0]), kept[1]
