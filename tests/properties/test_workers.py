"""Any number of workers gives what one worker gives: random small pipelines over keys of every kind."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate, window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.runners.local import LocalRunner
from tests.models.cluster import Sink, Threads


class Point(NamedTuple):
    x: int
    name: str


@dataclasses.dataclass(frozen=True)
class Place:
    x: int
    inner: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


KEYS = [
    0, 1, -1, 2**62, True, False, 0.0, -0.0, 1.0, float("inf"), "", "a", "1", b"", b"a", None, (), (1,), (True,),
    (1.0, "a"), ("a", (None, b"x")), [1, "a"], Point(1, "a"), Point(2, "a"), Place(1, "a"), Place(1, Point(1, "a")),
    (Place(2, None), 1), Colour.RED, Colour.BLUE,
]  # fmt: skip
Pairs = Any


def add(values: Iterable[int]) -> int:
    return sum(values) % 1000


def rekey(pair: Any) -> Any:
    key, value = pair
    return KEYS[(value + len(repr(key))) % len(KEYS)], value + 1


class Total(beam.DoFn):
    """Tells the sum of a key when its window is over, and that it saw the key when time has passed."""

    TOTAL = userstate.CombiningValueStateSpec("total", coders.VarIntCoder(), sum)
    OVER = userstate.TimerSpec("over", TimeDomain.WATERMARK)
    SEEN = userstate.BagStateSpec("seen", coders.FastPrimitivesCoder())
    PASSED = userstate.TimerSpec("passed", TimeDomain.REAL_TIME)

    def process(
        self,
        element: Any,
        time: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        key: Any = beam.DoFn.KeyParam,
        total: Any = beam.DoFn.StateParam(TOTAL),
        seen: Any = beam.DoFn.StateParam(SEEN),
        over: Any = beam.DoFn.TimerParam(OVER),
        passed: Any = beam.DoFn.TimerParam(PASSED),
    ) -> None:
        total.add(element[1])
        if not list(seen.read()):
            seen.add(True)
            over.set(window.end)
            passed.set(Timestamp.now())

    @userstate.on_timer(OVER)
    def over(self, key: Any = beam.DoFn.KeyParam, total: Any = beam.DoFn.StateParam(TOTAL)) -> Iterator[Any]:
        yield key, total.read() % 1000

    @userstate.on_timer(PASSED)
    def passed(self, key: Any = beam.DoFn.KeyParam) -> Iterator[Any]:
        yield key, 7


class Pieces(beam.transforms.core.RestrictionProvider):
    def initial_restriction(self, element: Any) -> Any:
        return beam.io.restriction_trackers.OffsetRange(0, 1 + element[1] % 5)

    def create_tracker(self, restriction: Any) -> Any:
        return beam.io.restriction_trackers.OffsetRestrictionTracker(restriction)

    def split(self, element: Any, restriction: Any) -> Any:
        return restriction.split(2)

    def restriction_size(self, element: Any, restriction: Any) -> Any:
        return restriction.size()


class Piecewise(beam.DoFn):
    """A splittable function: each element as several, one for each place of its restriction."""

    def process(self, element: Any, tracker: Any = beam.DoFn.RestrictionParam(Pieces())) -> Iterator[Any]:
        place = tracker.current_restriction().start
        while tracker.try_claim(place):
            yield element[0], element[1] + place
            place += 1


def everywhere(pairs: Pairs) -> Pairs:
    return pairs | "everywhere" >> beam.WindowInto(window.GlobalWindows())


def timed(pairs: Pairs) -> Pairs:
    return pairs | "timed" >> beam.Map(lambda pair: window.TimestampedValue(pair, pair[1] % 40))


STEPS: dict[str, Callable[[Pairs], Pairs]] = {
    "reshuffle": lambda pairs: pairs | beam.Reshuffle(),
    "rekey": lambda pairs: pairs | beam.Map(rekey),
    "group": lambda pairs: pairs
    | beam.GroupByKey()
    | beam.FlatMapTuple(lambda key, values: [(key, add(values)), (key, len(list(values)))]),
    "combine": lambda pairs: pairs | beam.CombinePerKey(add),
    "hot": lambda pairs: pairs | beam.CombinePerKey(max).with_hot_key_fanout(3),
    "double": lambda pairs: (pairs, pairs) | beam.Flatten(),
    "join": lambda pairs: {"a": pairs, "b": pairs | "b" >> beam.Map(rekey)}
    | beam.CoGroupByKey()
    | beam.MapTuple(lambda key, found: (key, add(found["a"]) - add(found["b"]))),
    "side": lambda pairs: pairs
    | beam.Map(
        lambda pair, total, known: (pair[0], pair[1] + total % 7 + len(known) % 5),
        beam.pvalue.AsSingleton(pairs | beam.Values() | beam.CombineGlobally(add)),
        beam.pvalue.AsList(pairs | beam.Keys()),
    ),
    "windows": lambda pairs: everywhere(
        timed(pairs) | beam.WindowInto(window.FixedWindows(10)) | beam.CombinePerKey(add)
    ),
    "sessions": lambda pairs: everywhere(
        timed(pairs)
        | beam.WindowInto(window.Sessions(5))
        | beam.GroupByKey()
        | beam.MapTuple(lambda key, values: (key, add(values)))
    ),
    "state": lambda pairs: everywhere(
        timed(pairs) | beam.WindowInto(window.FixedWindows(20)) | beam.ParDo(Total())
    ),
    "splittable": lambda pairs: pairs | beam.ParDo(Piecewise()),
    "count": lambda pairs: (pairs, pairs | beam.combiners.Count.Globally() | beam.Map(lambda n: ("count", n)))
    | beam.Flatten(),
    "nothing": lambda pairs: pairs
    | beam.Filter(lambda pair: False)
    | beam.Values()
    | beam.CombineGlobally(sum)
    | beam.Map(lambda total: ("nothing", total)),
}


class Named(beam.PTransform):
    """A step with a label of its own."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(f"{number} {name}")
        self.step = STEPS[name]

    def expand(self, pairs: Pairs) -> Pairs:
        return self.step(pairs)


def build(p: beam.Pipeline, pairs: list[Any], steps: list[str]) -> Pairs:
    result = p | beam.Create(pairs, reshuffle=False)
    for number, name in enumerate(steps):
        result = result | Named(number, name)
    return result | "told" >> beam.Map(repr)


def in_threads(workers: int, pairs: list[Any], steps: list[str]) -> Counter[Any]:
    Sink.found.clear()
    Threads(workers, 100, block_rows=4).run(lambda p: build(p, pairs, steps) | "put" >> beam.Map(Sink.put))
    return Sink.found.copy()


def in_processes(workers: int, pairs: list[Any], steps: list[str], folder: Path) -> Counter[Any]:
    options = PipelineOptions([f"--workers={workers}"])
    with beam.Pipeline(runner=LocalRunner(), options=options) as p:
        build(p, pairs, steps) | beam.io.WriteToText(str(folder / f"{workers}"), shard_name_template="")
    return Counter((folder / f"{workers}").read_text(encoding="utf-8").splitlines())


some_pairs = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 99)), max_size=40)
some_steps = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4)


@settings(max_examples=10, deadline=None)
@given(some_pairs, some_steps)
def test_two_and_three_workers_that_are_threads_give_what_one_gives(pairs: list[Any], steps: list[str]) -> None:
    one = in_threads(1, pairs, steps)
    assert in_threads(2, pairs, steps) == one
    assert in_threads(3, pairs, steps) == one


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_pairs, some_steps)
def test_two_and_three_worker_processes_give_what_one_process_gives(
    tmp_path: Path, pairs: list[Any], steps: list[str]
) -> None:
    one = in_processes(1, pairs, steps, tmp_path)
    assert in_processes(2, pairs, steps, tmp_path) == one
    assert in_processes(3, pairs, steps, tmp_path) == one


@pytest.mark.parametrize("name", sorted(STEPS))
def test_each_step_gives_the_same_over_all_kinds_of_keys(name: str) -> None:
    pairs = [(key, number) for number, key in enumerate(KEYS * 2)]
    one = in_threads(1, pairs, ["rekey", name])
    assert one
    assert in_threads(3, pairs, ["rekey", name]) == one
