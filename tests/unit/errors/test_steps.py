"""What a step's code raises is one error, which names the step and the user's lines, however the step runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io import iobase
from apache_beam.io.range_trackers import OffsetRangeTracker
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms import userstate, window
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.timeutil import TimeDomain

from sage.errors import Fault, MissingExtra, StepError


class Broken(beam.DoFn):
    """Raises in one of its methods."""

    def __init__(self, where: str) -> None:
        self.where = where

    def _at(self, where: str) -> None:
        if where == self.where:
            raise ValueError(f"in {where}")

    def setup(self) -> None:
        self._at("setup")

    def start_bundle(self) -> None:
        self._at("start_bundle")

    def process(self, element: Any) -> Iterator[Any]:
        self._at("process")
        yield element
        self._at("a generator halfway")

    def finish_bundle(self) -> None:
        self._at("finish_bundle")

    def teardown(self) -> None:
        self._at("teardown")


@pytest.mark.parametrize(
    "where", ["setup", "start_bundle", "process", "a generator halfway", "finish_bundle", "teardown"]
)
def test_a_dofn_that_raises(failing, where):
    def build(p):
        p | beam.Create([1, 2]) | "Broken" >> beam.ParDo(Broken(where)) | beam.Map(str)

    error = failing(build, "Broken", ValueError, f"in {where}")

    assert error.raised_at.text == 'raise ValueError(f"in {where}")'
    assert '"Broken" >> beam.ParDo' in error.applied_at.text
    assert error.fault is Fault.USER_CODE


def test_a_chain_names_the_step_that_raised_and_not_its_neighbours(failing):
    def build(p):
        (
            p
            | beam.Create([1, 0])
            | "Before" >> beam.Map(lambda n: n)
            | "Divide" >> beam.Map(lambda n: 1 // n)
            | "After" >> beam.Map(str)
        )

    error = failing(build, "Divide", ZeroDivisionError)

    assert "1 // n" in error.raised_at.text
    assert "Divide" in error.applied_at.text


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


@pytest.mark.parametrize(
    ("values", "match"), [([1, 2], "more than one element accessed as a singleton"), ([], "EmptySideInput")]
)
def test_a_singleton_of_no_or_two_elements(failing, values, match):
    def build(p):
        side = p | "Side" >> beam.Create(values)
        p | beam.Create([1]) | "Add" >> beam.Map(lambda n, m: n + m, beam.pvalue.AsSingleton(side))

    failing(build, "Add", TypeError if not values else ValueError, match)


def test_a_dict_view_of_what_are_no_pairs(failing):
    def build(p):
        side = p | "Side" >> beam.Create([1, 2])
        p | beam.Create([1]) | "Look up" >> beam.Map(lambda n, known: known[n], beam.pvalue.AsDict(side))

    failing(build, "Look up", TypeError)


def test_a_lambda_that_names_what_is_not_there(failing):
    def build(p):
        p | beam.Create([1]) | "Look" >> beam.Map(lambda n: NOWHERE[n])  # noqa: F821

    error = failing(build, "Look", NameError, "name 'NOWHERE' is not defined")

    assert "NOWHERE[n]" in error.raised_at.text


def test_a_lambda_of_a_namespace_of_its_own_finds_its_globals():
    source = """
import apache_beam as beam
from sage.runners.local import LocalRunner
from apache_beam.testing.util import assert_that, equal_to
KNOWN = {1: 2}
for flags in ([], ["--workers=2"]):
    with beam.Pipeline(runner=LocalRunner(), options=beam.options.pipeline_options.PipelineOptions(flags)) as p:
        assert_that(p | beam.Create([1]) | beam.Map(lambda n: KNOWN[n]), equal_to([2]))
"""
    exec(compile(source, "an example", "exec"), {"__name__": "example"})


def test_runtime_type_violations(failing):
    def build(p):
        p._options.view_as(beam.options.pipeline_options.TypeOptions).runtime_type_check = True
        p.runtime_type_check = True
        p | beam.Create([1]) | "Say" >> beam.Map(lambda n: n).with_output_types(str)

    failing(build, "Say", beam.typehints.decorators.TypeCheckError, "Runtime type violation")


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


class Offsets(RestrictionProvider):
    def initial_restriction(self, element: Any) -> OffsetRange:
        return OffsetRange(0, 10)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:
        return restriction.size()


class Stops(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(Offsets())):
        tracker.try_claim(0)
        yield element


def test_a_splittable_dofn_that_stops_early(failing):
    def build(p):
        p | beam.Create([1]) | "Stop" >> beam.ParDo(Stops())

    failing(build, "Stop", ValueError, "has not been claimed")


class Halfway(iobase.BoundedSource):
    def estimate_size(self) -> int:
        return 10

    def get_range_tracker(self, start: Any, stop: Any) -> OffsetRangeTracker:
        return OffsetRangeTracker(0, 10)

    def split(self, size: Any, start_position: Any = None, stop_position: Any = None) -> Any:
        yield iobase.SourceBundle(1, self, 0, 10)

    def read(self, tracker: Any) -> Iterator[int]:
        yield 1
        raise ValueError("in read")


def test_a_source_that_raises_halfway(failing):
    def build(p):
        p | "Source" >> beam.io.Read(Halfway())

    step = "Source/SDFBoundedSourceReader/ParDo(SDFBoundedSourceDoFn)"
    error = failing(build, step, ValueError, "in read")

    assert error.raised_at.text == 'raise ValueError("in read")'


def test_sys_exit_in_a_step_ends_the_job_and_nothing_else(failing):
    def build(p):
        p | beam.Create([1]) | "Leave" >> beam.Map(lambda _: sys.exit(3))

    error = failing(build, "Leave", SystemExit)

    assert error.cause.code == 3


def test_recursion_without_end(failing):
    def deeper(n: int) -> int:
        return deeper(n + 1)

    def build(p):
        p | beam.Create([1]) | "Deeper" >> beam.Map(deeper)

    failing(build, "Deeper", RecursionError)


class TwoReasons(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second
        self.lock = threading.Condition()


def test_an_exception_with_arguments_of_its_own_and_a_lock_comes_back_as_itself(failing):
    def fail(_: Any) -> None:
        raise TwoReasons("one", "two")

    def build(p):
        p | beam.Create([1]) | "Fail" >> beam.Map(fail)

    error = failing(build, "Fail", TwoReasons, "TwoReasons: one and two")

    assert error.cause.second == "two"
    assert isinstance(error, TwoReasons)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_printed(failing):
    def fail(_: Any) -> None:
        raise Mute

    def build(p):
        p | beam.Create([1]) | "Fail" >> beam.Map(fail)

    failing(build, "Fail", Mute, "its message cannot be had")


def test_an_error_of_ours_in_a_step_keeps_its_fault(failing):
    def fail(_: Any) -> None:
        raise MissingExtra("reading minds", "telepathy")

    def build(p):
        p | beam.Create([1]) | "Read" >> beam.Map(fail)

    error = failing(build, "Read", MissingExtra, r"sage-stream\[telepathy\]")

    assert error.fault is Fault.ENVIRONMENT


def test_a_pipeline_inside_a_dofn_names_the_step_inside(failing):
    def inside(n: int) -> None:
        from sage.runners.local import LocalRunner

        with beam.Pipeline(runner=LocalRunner()) as q:
            q | beam.Create([n]) | "Inner" >> beam.Map(lambda m: m // 0)

    def build(p):
        p | beam.Create([1]) | "Outer" >> beam.Map(inside)

    failing(build, "Inner", ZeroDivisionError)
