"""The corpus: steps without state. Every parameter of a DoFn, outputs, side inputs, combining, batches, errors."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam import pvalue
from apache_beam.metrics import Metrics
from apache_beam.transforms import window

from tests.conformance.cases import case, stamped

P = beam.Pipeline
C = beam.PCollection[Any]
NUMBERS = [1, 2, 3, 4]
PAIRS = [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)]


def double(x: int) -> int:
    return 2 * x


def is_even(x: int) -> bool:
    return x % 2 == 0


@case([4, 8], double="compiled", even="compiled")
def map_and_filter(p: P) -> C:
    return p | beam.Create(NUMBERS) | "even" >> beam.Filter(is_even) | "double" >> beam.Map(double)


def below(x: int) -> Iterable[int]:
    return range(x)


@case([0, 0, 1, 0, 1, 2], spread="compiled")
def flat_map(p: P) -> C:
    return p | beam.Create([1, 2, 3]) | "spread" >> beam.FlatMap(below)


@case([11, 12, 23], add="compiled")
def arguments(p: P) -> C:
    return p | beam.Create([(1, 10), (2, 10), (3, 20)]) | "add" >> beam.MapTuple(lambda x, y, z=0: x + y + z)


def reused(count: int) -> Iterator[list[int]]:
    buffer = [0]
    for value in range(count):
        buffer[0] = value
        yield buffer


@case([0, 1, 2, 3])
def buffer_that_is_reused(p: P) -> C:
    return p | beam.Create([4]) | beam.FlatMap(reused) | beam.Map(lambda buffer: buffer[0])


class Tell(beam.DoFn):
    def process(
        self,
        element: Any,
        stamp: Any = beam.DoFn.TimestampParam,
        where: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
        key: Any = beam.DoFn.KeyParam,
    ) -> Iterable[Any]:
        yield (key, int(stamp), int(where.start), pane.is_first)


@case([("a", 1, 0, True), ("b", 7, 5, True)], tell="bound")
def parameters(p: P) -> C:
    pairs = p | stamped([(("a", 1), 1), (("b", 2), 7)])
    return pairs | beam.WindowInto(window.FixedWindows(5)) | "tell" >> beam.ParDo(Tell())


class TellWhole(beam.DoFn):
    def process(self, element: Any, value: Any = beam.DoFn.WindowedValueParam) -> Iterable[Any]:
        yield (value.value, int(value.timestamp), [int(w.end) for w in value.windows])


@case([(1, 1, [5]), (7, 7, [10])], tell="bound")
def windowed_value_parameter(p: P) -> C:
    return p | stamped([(1, 1), (7, 7)]) | beam.WindowInto(window.FixedWindows(5)) | "tell" >> beam.ParDo(TellWhole())


class Sort(beam.DoFn):
    def process(self, element: int) -> Iterable[Any]:
        yield element
        if element % 2:
            yield pvalue.TaggedOutput("odd", -element)
        yield pvalue.TaggedOutput("nobody reads this", element)


@case([1, 2, 3, 4, -1, -3], sort="compiled")
def tagged_outputs(p: P) -> C:
    main, odd = p | beam.Create(NUMBERS) | "sort" >> beam.ParDo(Sort()).with_outputs("odd", main="main")
    return (main, odd) | beam.Flatten()


class Gather(beam.DoFn):
    def setup(self) -> None:
        self.log = ["setup"]

    def start_bundle(self) -> None:
        self.log.append("start")
        self.sum = 0

    def process(self, element: int) -> None:
        self.sum += element

    def finish_bundle(self) -> Iterable[Any]:
        yield window.GlobalWindows.windowed_value((self.sum, self.log[:2]))


@case([10])
def life_of_a_bundle(p: P) -> C:
    sums = p | beam.Create(NUMBERS, reshuffle=False) | beam.ParDo(Gather())
    begun = sums | beam.Filter(lambda told: told[1] == ["setup", "start"]) | beam.Map(operator.itemgetter(0))
    return begun | beam.CombineGlobally(sum)


@case([0, 1, 2, 3])
def partition(p: P) -> C:
    low, high = p | beam.Create([0, 1, 2, 3]) | beam.Partition(lambda x, n: int(x > 1), 2)
    return (low, high) | beam.Flatten()


@case([])
def nothing(p: P) -> C:
    return (() | beam.Flatten(pipeline=p.pipeline), p | beam.Create([])) | "both" >> beam.Flatten()


@case([1, 1, 2])
def flatten_of_one_collection_twice(p: P) -> C:
    one = p | beam.Create([1])
    return (one, one, p | "two" >> beam.Create([2])) | beam.Flatten()


@case(NUMBERS)
def reshuffle(p: P) -> C:
    return p | beam.Create(NUMBERS) | beam.Reshuffle()


# Side inputs.


@case([11, 12, 13, 14], add="compiled")
def side_singleton(p: P) -> C:
    ten = p | "ten" >> beam.Create([10])
    return p | beam.Create(NUMBERS) | "add" >> beam.Map(operator.add, pvalue.AsSingleton(ten))


@case([(1, 99)])
def side_singleton_by_default(p: P) -> C:
    none = p | "none" >> beam.Create([])
    return p | beam.Create([1]) | beam.Map(lambda x, y: (x, y), pvalue.AsSingleton(none, default_value=99))


@case([(0, 6), (1, 6)])
def side_iterable(p: P) -> C:
    numbers = p | "numbers" >> beam.Create([1, 2, 3])
    return p | beam.Create([0, 1]) | beam.Map(lambda x, some: (x, sum(some)), pvalue.AsIter(numbers))


@case([(0, [1, 2, 3])])
def side_list(p: P) -> C:
    numbers = p | "numbers" >> beam.Create([3, 1, 2])
    return p | beam.Create([0]) | beam.Map(lambda x, some: (x, sorted(some)), pvalue.AsList(numbers))


@case([("a", 1), ("b", 2)])
def side_dictionary(p: P) -> C:
    known = p | "known" >> beam.Create([("a", 1), ("b", 2)])
    return p | beam.Create(["a", "b"]) | beam.Map(lambda x, known: (x, known[x]), pvalue.AsDict(known))


@case([("a", [1, 3]), ("z", [])])
def side_multimap(p: P) -> C:
    known = p | "known" >> beam.Create(PAIRS)
    return p | beam.Create(["a", "z"]) | beam.Map(
        lambda x, known: (x, sorted(known[x])), pvalue.AsMultiMap(known)
    )  # fmt: skip


@case([("x", [1, 2]), ("y", [11])])
def side_of_the_same_window(p: P) -> C:
    def into_tens(name: str, pairs: list[tuple[Any, int]]) -> C:
        return p | name >> stamped(pairs) | f"{name} windows" >> beam.WindowInto(window.FixedWindows(10))

    side = into_tens("side", [(1, 1), (2, 2), (11, 11)])
    return into_tens("main", [("x", 3), ("y", 13)]) | beam.Map(
        lambda x, some: (x, sorted(some)), pvalue.AsIter(side)
    )  # fmt: skip


@case([(1, 10, [5])])
def two_sides(p: P) -> C:
    ten, five = p | "ten" >> beam.Create([10]), p | "five" >> beam.Create([5])
    return p | beam.Create([1]) | beam.Map(
        lambda x, y, z: (x, y, list(z)), pvalue.AsSingleton(ten), pvalue.AsIter(five)
    )  # fmt: skip


# Grouping and combining.


@case([("a", [1, 3]), ("b", [2, 5]), ("c", [4])])
def group_by_key(p: P) -> C:
    return p | beam.Create(PAIRS) | beam.GroupByKey() | beam.MapTuple(lambda key, values: (key, sorted(values)))


@case([("int", 1, 2), ("bool", True, 1), ("float", 1.0, 1), ("tuple", (1, "x"), 1), ("NoneType", None, 1)])
def keys_that_python_calls_equal(p: P) -> C:
    keys = [1, True, 1.0, 1, (1, "x"), None]
    counts = p | beam.Create(keys) | beam.Map(lambda key: (key, 1)) | beam.GroupByKey()
    return counts | beam.MapTuple(lambda key, ones: (type(key).__name__, key, len(list(ones))))


@case([("int", 1, 2), ("bool", True, 1), ("float", 1.0, 1), ("tuple", (1, "x"), 1), ("NoneType", None, 1)])
def equal_keys_are_counted_apart(p: P) -> C:
    counts = p | beam.Create([1, True, 1.0, 1, (1, "x"), None]) | beam.combiners.Count.PerElement()
    return counts | beam.MapTuple(lambda key, count: (type(key).__name__, key, count))


@case([("a", 2), ("b", 1), ("a", 1), ("b", 1), ("a", 1)], one="compiled")
def pairs_with_a_constant_are_summed_and_handed_on(p: P) -> C:
    ones = p | beam.Create(["a", "b", "a"]) | "one" >> beam.Map(lambda word: (word, 1))
    return (ones | beam.CombinePerKey(sum), ones) | beam.Flatten()


@case([("a", [1, 3], ["x"]), ("b", [2, 5], []), ("c", [4], []), ("d", [], ["y"])])
def co_group_by_key(p: P) -> C:
    right = p | "right" >> beam.Create([("a", "x"), ("d", "y")])
    joined = {"left": p | "left" >> beam.Create(PAIRS), "right": right} | beam.CoGroupByKey()
    return joined | beam.MapTuple(lambda key, found: (key, sorted(found["left"]), sorted(found["right"])))


@case([("a", 4), ("b", 7), ("c", 4)])
def combine_per_key(p: P) -> C:
    return p | beam.Create(PAIRS) | beam.CombinePerKey(sum)


@case([("a", 4), ("b", 7), ("c", 4)])
def combine_with_fan_out(p: P) -> C:
    return p | beam.Create(PAIRS) | beam.CombinePerKey(sum).with_hot_key_fanout(3)


@case([("a", 2.0), ("b", 3.5), ("c", 4.0)])
def mean_per_key(p: P) -> C:
    return p | beam.Create(PAIRS) | beam.combiners.Mean.PerKey()


@case([0])
def combine_of_nothing(p: P) -> C:
    return p | beam.Create([]) | beam.CombineGlobally(sum)


@case([("a", 4), ("b", 2)])
def combine_grouped_values(p: P) -> C:
    return p | beam.Create([("a", [1, 3]), ("b", [2])]) | beam.CombineValues(sum)


@case([[5, 4], 3])
def top_and_distinct(p: P) -> C:
    numbers = p | beam.Create([5, 4, 4, 1]) | beam.Distinct()
    return (numbers | beam.combiners.Top.Largest(2), numbers | beam.combiners.Count.Globally()) | beam.Flatten()


class Sale(NamedTuple):
    shop: str
    pence: int


beam.coders.registry.register_coder(Sale, beam.coders.RowCoder)


@case([("left", 30, 2), ("right", 5, 1)])
def rows_by_schema(p: P) -> C:
    sales = p | beam.Create([Sale("left", 10), Sale("left", 20), Sale("right", 5)]).with_output_types(Sale)
    totals = sales | beam.GroupBy("shop").aggregate_field("pence", sum, "total").aggregate_field(
        "pence", beam.combiners.CountCombineFn(), "sales"
    )  # fmt: skip
    return totals | beam.Map(lambda row: (row.shop, row.total, row.sales))


@case([(1, "x"), (2, "y")])
def beam_rows(p: P) -> C:
    rows = p | beam.Create([1, 2]) | beam.Map(lambda x: beam.Row(number=x, letter="xy"[x - 1])) | beam.Reshuffle()
    return rows | beam.Map(lambda row: (row.number, row.letter))


# Batches, errors, metrics, hints.


class DoubleBatch(beam.DoFn):
    def process_batch(self, batch: Any) -> Iterator[Any]:
        yield batch * 2

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type

    # Beam reads a batch's type from annotations, but not from those that wait to be evaluated.
    def get_input_batch_type(self, input_element_type: Any) -> Any:
        return np.ndarray

    def get_output_batch_type(self, input_element_type: Any) -> Any:
        return np.ndarray


class Explode(beam.DoFn):
    def get_input_batch_type(self, input_element_type: Any) -> Any:
        return np.ndarray

    @beam.DoFn.yields_elements
    def process_batch(self, batch: Any) -> Iterator[int]:
        yield from batch.tolist()


@case([2, 4, 6], double="general")
def batches(p: P) -> C:
    numbers = p | beam.Create([np.int64(n) for n in (1, 2, 3)]).with_output_types(np.int64)
    doubled = numbers | "double" >> beam.ParDo(DoubleBatch())
    return doubled | beam.ParDo(Explode()).with_output_types(int)


def invert(x: int) -> float:
    return 1 / x


@case([0.5, 1.0, (0, "ZeroDivisionError")])
def errors_beside_results(p: P) -> C:
    good, bad = p | beam.Create([0, 1, 2]) | beam.Map(invert).with_exception_handling()
    told = bad | beam.MapTuple(lambda element, error: (element, error[0].__name__))
    return (good, told) | beam.Flatten()


class Count(beam.DoFn):
    SEEN = Metrics.counter("corpus", "seen")
    SIZES = Metrics.distribution("corpus", "sizes")

    def process(self, element: int) -> Iterable[int]:
        self.SEEN.inc()
        self.SIZES.update(element)
        yield element


@case(NUMBERS, count="compiled")
def metrics(p: P) -> C:
    return p | beam.Create(NUMBERS) | "count" >> beam.ParDo(Count())


@case([2, 4, 6, 8])
def resource_hints(p: P) -> C:
    return p | beam.Create(NUMBERS) | beam.Map(double).with_resource_hints(min_ram="1GB")


class Finalize(beam.DoFn):
    def process(self, element: int, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> Iterable[int]:
        finalizer.register(lambda: None)
        yield element


@case(NUMBERS, last="general")
def bundle_finalizer(p: P) -> C:
    return p | beam.Create(NUMBERS) | "last" >> beam.ParDo(Finalize())
