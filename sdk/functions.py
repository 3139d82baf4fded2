"""The base classes of user functions: one method to write, with `open` and `close` around it.

A function is built where the pipeline is built, serialised, and opened once for each instance that a worker
makes of it. So: parameters in the constructor, connections and models in `open`. An instance sees one element at
a time; a runner may make several instances, and may drop one without `close` when a worker is lost.

Nothing here imports Beam.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from sage.runtime import RuntimeContext

__all__ = [
    "CoFlatMapFunction",
    "CoMapFunction",
    "FilterFunction",
    "FlatMapFunction",
    "Function",
    "MapFunction",
    "ReduceFunction",
    "SinkFunction",
    "SourceFunction",
]

In = TypeVar("In")
In2 = TypeVar("In2")
Out = TypeVar("Out")


class Function:
    """Base of all user functions."""

    def open(self, context: RuntimeContext) -> None:
        """Called once before the first element: take hold of what cannot be serialised."""

    def close(self) -> None:
        """Called after the last element, where the worker ends in order; must not be relied on for results."""


class MapFunction(Function, Generic[In, Out]):
    """One output for each input.

    >>> class Above(MapFunction[int, bool]):
    ...     def __init__(self, threshold: int = 0) -> None:
    ...         self.threshold = threshold
    ...     def map(self, value: int) -> bool:
    ...         return value > self.threshold
    >>> Above(threshold=3).map(5)
    True
    """

    def map(self, value: In) -> Out:
        """The output for ``value``. May be called again with an equal value when a bundle is retried."""
        raise NotImplementedError(f"{type(self).__name__} must define map(self, value)")


class FlatMapFunction(Function, Generic[In, Out]):
    """Any number of outputs for each input: yield them, or return an iterable (or None for no output)."""

    def flat_map(self, value: In) -> Iterable[Out] | None:
        """The outputs for ``value``, pulled before the next value is given."""
        raise NotImplementedError(f"{type(self).__name__} must define flat_map(self, value)")


class FilterFunction(Function, Generic[In]):
    """Keeps the elements that it says yes to."""

    def filter(self, value: In) -> bool:
        """Whether ``value`` stays in the stream."""
        raise NotImplementedError(f"{type(self).__name__} must define filter(self, value)")


class ReduceFunction(Function, Generic[In]):
    """Joins two values into one of the same kind; must be associative and commutative, and keep no state.

    It runs wherever Beam combines, also ahead of the shuffle, so `open` and `close` are not called.
    """

    def reduce(self, first: In, second: In) -> In:
        """The value that stands for both."""
        raise NotImplementedError(f"{type(self).__name__} must define reduce(self, first, second)")


class SinkFunction(Function, Generic[In]):
    """Takes elements out of the pipeline.

    A bundle that fails is given again, also to another instance, so a sink is written to at least once. A sink
    whose writes are idempotent (an upsert by key) is exact.
    """

    def write(self, value: In) -> None:
        """Take one element; it may stay in a buffer until `flush`."""
        raise NotImplementedError(f"{type(self).__name__} must define write(self, value)")

    def flush(self) -> None:
        """Called at the end of each bundle: when it returns, all that was written must be safe."""


class SourceFunction(Function, Generic[Out]):
    """A bounded source: a list of splits, each read from its start to its end.

    The unit of retry and of parallelism is the split. Elements may carry event time: yield
    ``apache_beam.window.TimestampedValue(value, seconds)``.

    >>> class Count(SourceFunction[int]):
    ...     def __init__(self, upto: int) -> None:
    ...         self.upto = upto
    ...     def splits(self) -> Sequence[range]:
    ...         return [range(0, self.upto // 2), range(self.upto // 2, self.upto)]
    ...     def read(self, split: range) -> Iterable[int]:
    ...         return split
    >>> [list(Count(4).read(split)) for split in Count(4).splits()]
    [[0, 1], [2, 3]]
    """

    def splits(self) -> Sequence[Any]:
        """Descriptions of the parts that may be read apart; serialised to the workers. One part by default.

        Called in a worker, on an instance that is not opened.
        """
        return (None,)

    def read(self, split: Any) -> Iterable[Out]:
        """The elements of one split, in order. Must give the same elements when it is read again."""
        raise NotImplementedError(f"{type(self).__name__} must define read(self, split)")


class CoMapFunction(Function, Generic[In, In2, Out]):
    """One output for each element of two connected streams, which may differ in type; one instance sees both."""

    def map1(self, value: In) -> Out:
        """The output for an element of the first stream."""
        raise NotImplementedError(f"{type(self).__name__} must define map1(self, value)")

    def map2(self, value: In2) -> Out:
        """The output for an element of the second stream."""
        raise NotImplementedError(f"{type(self).__name__} must define map2(self, value)")


class CoFlatMapFunction(Function, Generic[In, In2, Out]):
    """Any number of outputs for each element of two connected streams; one instance sees both."""

    def flat_map1(self, value: In) -> Iterable[Out] | None:
        """The outputs for an element of the first stream."""
        raise NotImplementedError(f"{type(self).__name__} must define flat_map1(self, value)")

    def flat_map2(self, value: In2) -> Iterable[Out] | None:
        """The outputs for an element of the second stream."""
        raise NotImplementedError(f"{type(self).__name__} must define flat_map2(self, value)")
