"""Beam DoFns and CombineFns that call the user's function objects.

A plain function needs none of these: it goes to ``beam.Map``, ``beam.FlatMap`` or ``beam.Filter`` as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam

from sage.functions import (
    CoFlatMapFunction,
    CoMapFunction,
    FilterFunction,
    FlatMapFunction,
    Function,
    MapFunction,
    SinkFunction,
    SourceFunction,
)
from sage.operators import ResolvedFunction
from sage.runtime import RuntimeContext
from sage.transactions import TransactionalDoFn

__all__ = [
    "CallSink",
    "CoFlatMapDoFn",
    "CoMapDoFn",
    "FilterDoFn",
    "FlatMapDoFn",
    "MapDoFn",
    "ReadSource",
    "ReduceCombineFn",
    "SinkDoFn",
    "namespace_of",
    "sink_dofn",
]


def namespace_of(function: object) -> str:
    """The metrics namespace of a function object, as Beam makes one of a class: module and qualified name."""
    cls = type(function)
    return f"{cls.__module__}.{cls.__qualname__}"


class _Opened(beam.DoFn):
    """Opens the function with the DoFn and closes it with the DoFn.

    Beam tears down a DoFn even where its setup failed; a function that was never opened is not closed.
    """

    def __init__(self, function: Function, step: str) -> None:
        super().__init__()
        self.function: Any = function
        self.step = step
        self._is_open = False

    def setup(self) -> None:
        self.function.open(RuntimeContext(self.step, namespace_of(self.function)))
        self._is_open = True

    def teardown(self) -> None:
        if self._is_open:
            self._is_open = False
            self.function.close()


class MapDoFn(_Opened):
    """Calls a `MapFunction`."""

    function: MapFunction[Any, Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        return (self.function.map(element),)


class FlatMapDoFn(_Opened):
    """Calls a `FlatMapFunction`."""

    function: FlatMapFunction[Any, Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        return self.function.flat_map(element)


class FilterDoFn(_Opened):
    """Calls a `FilterFunction`."""

    function: FilterFunction[Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        return (element,) if self.function.filter(element) else ()


class SinkDoFn(_Opened):
    """Calls a `SinkFunction`; each bundle ends with its flush."""

    function: SinkFunction[Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        self.function.write(element)
        return ()

    def finish_bundle(self) -> None:
        self.function.flush()


class CallSink(beam.DoFn):
    """Calls a plain function for its effect."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        super().__init__()
        self.function = function

    def process(self, element):  # type: ignore[no-untyped-def]
        self.function(element)
        return ()


class CoMapDoFn(_Opened):
    """Calls a `CoMapFunction` on elements tagged 0 (first stream) and 1 (second stream)."""

    function: CoMapFunction[Any, Any, Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        side, value = element
        return (self.function.map2(value) if side else self.function.map1(value),)


class CoFlatMapDoFn(_Opened):
    """Calls a `CoFlatMapFunction` on elements tagged 0 (first stream) and 1 (second stream)."""

    function: CoFlatMapFunction[Any, Any, Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        side, value = element
        return self.function.flat_map2(value) if side else self.function.flat_map1(value)


class _ReadSplit(_Opened):
    function: SourceFunction[Any]

    def process(self, element):  # type: ignore[no-untyped-def]
        return self.function.read(element)


class ReadSource(beam.PTransform):
    """Reads a `SourceFunction`: its splits are listed, spread over the workers, and read.

    Args:
        source: the source.
        step: the step's label, for the source's context.
        output_type: the type of its elements; None for any.
    """

    def __init__(self, source: SourceFunction[Any], step: str, output_type: Any = None) -> None:
        super().__init__()
        self.source = source
        self.step = step
        self.output_type = output_type

    def expand(self, pbegin):  # type: ignore[no-untyped-def]
        source = self.source
        read = beam.ParDo(_ReadSplit(source, self.step))
        if self.output_type is not None:
            read = read.with_output_types(self.output_type)
        splits = pbegin | "List" >> beam.Impulse() | "Splits" >> beam.FlatMap(lambda _: source.splits())
        if type(source).splits is not SourceFunction.splits:
            splits = splits | "Spread" >> beam.Reshuffle()
        return splits | "Read" >> read


class ReduceCombineFn(beam.CombineFn):
    """Folds values with a function of two; the accumulator is the value so far in a tuple, or an empty tuple."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self.function = function

    def create_accumulator(self) -> tuple[Any, ...]:
        return ()

    def add_input(self, accumulator: tuple[Any, ...], element: Any) -> tuple[Any, ...]:
        return (self.function(accumulator[0], element),) if accumulator else (element,)

    def merge_accumulators(self, accumulators: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
        values = [accumulator[0] for accumulator in accumulators if accumulator]
        return (functools.reduce(self.function, values),) if values else ()

    def extract_output(self, accumulator: tuple[Any, ...]) -> Any:
        return accumulator[0] if accumulator else None


def sink_dofn(operator: ResolvedFunction, label: str) -> beam.DoFn:
    """The DoFn of a sink: a function, a `SinkFunction`, or one that writes in transactions and is a DoFn itself."""
    if isinstance(operator.function, TransactionalDoFn):
        return operator.function
    return SinkDoFn(operator.function, label) if operator.is_object else CallSink(operator.bound())
