"""Errors of steps that go by key or window: combines, groupings, state, timers, window functions."""

from __future__ import annotations

from functools import partial
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms import trigger, userstate, window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

from sage.errors import StepError


class BrokenCombine(beam.CombineFn):
    def __init__(self, where: str) -> None:
        self.where = where

    def _at(self, where: str) -> None:
        if where == self.where:
            raise ValueError(f"in {where}")

    def setup(self) -> None:
        self._at("setup")

    def create_accumulator(self) -> int:
        self._at("create_accumulator")
        return 0

    def add_input(self, accumulator: int, value: int) -> int:
        self._at("add_input")
        return accumulator + value

    def merge_accumulators(self, accumulators: Any) -> int:
        self._at("merge_accumulators")
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> int:
        self._at("extract_output")
        return accumulator

    def teardown(self) -> None:
        self._at("teardown")


@pytest.mark.parametrize(
    "where", ["setup", "create_accumulator", "add_input", "extract_output", "teardown"]
)
@pytest.mark.parametrize("sessions", [False, True])
def test_a_combine_fn_that_raises(failing, where, sessions):
    def build(p):
        pairs = p | beam.Create([("a", 1), ("a", 2)])
        if sessions:
            pairs |= beam.WindowInto(window.Sessions(10))
        pairs | "Sum" >> beam.CombinePerKey(BrokenCombine(where))

    error = failing(build, "Sum", ValueError, f"in {where}")

    assert error.raised_at.text == 'raise ValueError(f"in {where}")'


def test_a_combine_fn_that_raises_where_accumulators_merge(run):
    def build(p):
        (
            [p | f"of {n}" >> beam.Create([("a", n)]) for n in range(3)]
            | beam.Flatten()
            | "Apart" >> beam.Reshuffle()
            | "Sum" >> beam.CombinePerKey(BrokenCombine("merge_accumulators")).with_hot_key_fanout(3)
        )

    with pytest.raises(StepError, match="in merge_accumulators") as caught:
        run(build)
    assert caught.value.step.startswith("Sum")


def test_a_combine_fn_over_grouped_values_that_raises(failing):
    def build(p):
        p | beam.Create([("a", 1)]) | beam.GroupByKey() | "Sum" >> beam.CombineValues(BrokenCombine("add_input"))

    failing(build, "Sum", ValueError, "in add_input")


class Remembers(beam.DoFn):
    SEEN = userstate.ReadModifyWriteStateSpec("seen", beam.coders.VarIntCoder())
    LATER = userstate.TimerSpec("later", TimeDomain.WATERMARK)

    def __init__(self, where: str) -> None:
        self.where = where

    def process(self, pair, seen=beam.DoFn.StateParam(SEEN), later=beam.DoFn.TimerParam(LATER)):
        if self.where == "process":
            raise ValueError("in process")
        later.set(10)

    @userstate.on_timer(LATER)
    def at_last(self):
        raise ValueError("in a timer")


@pytest.mark.parametrize(("where", "message"), [("process", "in process"), ("timer", "in a timer")])
def test_a_stateful_dofn_that_raises(failing, where, message):
    def build(p):
        p | beam.Create([("a", 1)]) | "Remember" >> beam.ParDo(Remembers(where))

    error = failing(build, "Remember", ValueError, message)

    assert error.raised_at.text == f'raise ValueError("{message}")'


ANY = beam.typehints.Any


@pytest.mark.parametrize("element", [1, (1, 2, 3)])
@pytest.mark.parametrize(
    "keyed",
    [
        beam.GroupByKey(),
        beam.CombinePerKey(sum),
        beam.WindowInto(window.Sessions(10)),
        beam.ParDo(Remembers("nowhere")),
    ],
    ids=["group", "combine", "sessions", "state"],
)
def test_what_is_no_pair_into_a_keyed_step(failing, keyed, element):
    def build(p):
        values = p | beam.Create([element]) | "Any" >> beam.Map(lambda value: value).with_output_types(ANY)
        if isinstance(keyed, beam.WindowInto):
            values | keyed | "Keyed" >> beam.GroupByKey()
        else:
            values | "Keyed" >> keyed

    failing(build, "Keyed", (TypeError, ValueError), "pair|KV")


class Opaque:
    pass


def test_a_key_that_has_no_bytes_of_its_own(failing):
    def build(p):
        p | beam.Create([1]) | "Key" >> beam.Map(lambda n: (Opaque(), n)) | "Group" >> beam.GroupByKey()

    failing(build, "Group", TypeError, "Unable to deterministically encode")


GLOBAL = partial(beam.WindowInto, window.GlobalWindows())
SESSIONS = partial(beam.WindowInto, window.Sessions(10))
EACH = partial(
    beam.WindowInto,
    window.GlobalWindows(),
    trigger=trigger.Repeatedly(trigger.AfterCount(1)),
    accumulation_mode=trigger.AccumulationMode.DISCARDING,
)


class Counts(beam.DoFn):
    COUNT = userstate.CombiningValueStateSpec("count", sum)

    def process(self, element: Any, count: Any = beam.DoFn.StateParam(COUNT)) -> Any:
        count.add(1)
        yield element[0], count.read()


UNFIT: list[Any] = [
    (tuple[str, int], ("a", 1), (None, 1), GLOBAL, "group"),
    (tuple[str, int], ("a", 1), ("a", 1, 2), GLOBAL, "group"),
    (tuple[tuple[str, int], int], (("a", 1), 1), (("a", "b"), 1), GLOBAL, "group"),
    (str, "\u00e9", "\ud800", GLOBAL, "group"),
    (Any, "a", "\ud800", GLOBAL, "group"),
    (int, 1, 1 << 63, GLOBAL, "group"),
    (str, "a", None, GLOBAL, "combine"),
    (tuple[int, str], (1, "a"), (1 << 64, "a"), GLOBAL, "combine"),
    (int, 1, "a", SESSIONS, "group"),
    (tuple[str, int], ("a", 1), (None, 1), EACH, "group"),
    (bytes, b"a", "a", GLOBAL, "state"),
    (int, 1, -(1 << 63) - 1, GLOBAL, "state"),
]


@pytest.mark.parametrize(("declared", "fit", "unfit", "windows", "kind"), UNFIT)
def test_a_key_that_its_declared_type_does_not_fit_is_an_error_wherever_it_runs(
    failing, declared, fit, unfit, windows, kind
):
    """Behind a key that fits, and whether or not keys are ever encoded."""
    pair = convert_to_beam_type(tuple[declared, int])
    keyed = {"group": beam.GroupByKey(), "combine": beam.CombinePerKey(sum), "state": beam.ParDo(Counts())}[kind]

    def build(p):
        pairs = p | beam.Create([0]) | beam.FlatMap(lambda n: [(fit, n), (unfit, n)]) | windows()
        pairs.element_type = pair
        pairs | "Keyed" >> keyed

    error = failing(build, "Keyed", TypeError, "a key does not fit the coder that its type hints ask for")
    assert repr(unfit)[:90] in str(error)


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_of_optional_and_of_subclassed_types_fit(run, workers):
    def build(p):
        for number, (declared, key) in enumerate([(str | None, None), (str, Text("a")), (int, True), (float, 1)]):
            pairs = p | f"make {number}" >> beam.Create([0]) | f"key {number}" >> beam.Map(lambda n, key=key: (key, n))
            pairs.element_type = convert_to_beam_type(tuple[declared, int])
            pairs | f"group {number}" >> beam.GroupByKey()

    run(build, f"--workers={workers}")


class Text(str):
    pass


class Windows(window.NonMergingWindowFn):
    def assign(self, context: Any) -> Any:
        raise ValueError("in assign")

    def get_window_coder(self) -> Any:
        return beam.coders.coders.IntervalWindowCoder()


class Merges(window.WindowFn):
    def assign(self, context: Any) -> Any:
        return [window.IntervalWindow(0, 10)]

    def merge(self, context: Any) -> None:
        raise ValueError("in merge")

    def get_window_coder(self) -> Any:
        return beam.coders.coders.IntervalWindowCoder()

    def get_transformed_output_time(self, window: Any, timestamp: Any) -> Any:
        return timestamp


def test_a_window_fn_that_raises(failing):
    def build(p):
        p | beam.Create([1]) | "Windows" >> beam.WindowInto(Windows())

    failing(build, "Windows", ValueError, "in assign")


def test_a_window_fn_that_raises_in_merge(failing):
    def build(p):
        p | beam.Create([("a", 1), ("a", 2)]) | beam.WindowInto(Merges()) | "Group" >> beam.GroupByKey()

    failing(build, "Group", ValueError, "in merge")
