"""Errors of steps that go by key or window: combines, groupings, state, timers, window functions."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms import userstate, window
from apache_beam.transforms.timeutil import TimeDomain

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


def test_a_key_that_its_type_hint_denies_is_told_where_workers_need_its_bytes(run):
    pair = beam.typehints.Tuple[int, int]

    def build(p):
        p | beam.Create([1]) | beam.Map(lambda n: ("a", n)).with_output_types(pair) | "Group" >> beam.GroupByKey()

    with pytest.raises(StepError, match="a key does not fit the coder that its type hints ask for") as caught:
        run(build, "--workers=2")
    assert caught.value.step == "Group"


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
